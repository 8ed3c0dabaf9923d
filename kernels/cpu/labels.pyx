"""Text ids made into codes 0, 1, 2 ... in the order they first come, by one hash table over their bytes.

The texts stay where they are: in the buffers of an Arrow array, or in Python's strings.
"""
from cpython.buffer cimport PyBUF_CONTIG_RO, PyBUF_FORMAT, PyBuffer_Release, PyObject_GetBuffer
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc

cdef extern from *:
    """
    #include <stdint.h>
    #include <stdlib.h>
    #include <string.h>

    typedef struct {
      const char *bytes;
      int64_t size;
    } fr_text;

    typedef struct {
      uint64_t *slots;  // hash << 32 | code + 1; 0 is free
      uint64_t mask;
      fr_text *labels;  // by code
      int64_t count;
      int64_t room;     // labels that fit before the table grows
    } fr_text_table;

    static inline uint64_t fr_text_word(const char *bytes, int64_t size) {  // at most 8 bytes
      uint64_t word = 0;
      memcpy(&word, bytes, (size_t)size);
      return word;
    }

    static inline uint32_t fr_text_hash(fr_text text) {
      const uint64_t factor = 0x9E3779B97F4A7C15u;
      uint64_t h = (uint64_t)text.size * 0xD6E8FEB86659FD93u, word;
      const char *at = text.bytes;
      int64_t left = text.size;
      for (; left > 8; left -= 8, at += 8) {
        memcpy(&word, at, 8);
        h = (h ^ word) * factor;
        h ^= h >> 29;
      }
      if (left >= 4) {  // two loads that may overlap
        uint32_t low, high;
        memcpy(&low, at, 4);
        memcpy(&high, at + left - 4, 4);
        word = (uint64_t)high << 32 | low;
      } else {
        word = fr_text_word(at, left);
      }
      h = (h ^ word) * factor;
      h = (h ^ (h >> 32)) * factor;
      return (uint32_t)(h >> 32);
    }

    static inline int fr_text_equal(fr_text a, fr_text b) {
      return a.size == b.size && memcmp(a.bytes, b.bytes, (size_t)a.size) == 0;
    }

    static inline int fr_text_open(fr_text_table *table) {
      const uint64_t slots = 4096;
      table->slots = (uint64_t *)calloc(slots, sizeof(uint64_t));
      table->labels = (fr_text *)malloc(slots / 2 * sizeof(fr_text));
      table->mask = slots - 1;
      table->count = 0;
      table->room = (int64_t)(slots / 2);
      return table->slots && table->labels;
    }

    static inline void fr_text_close(fr_text_table *table) {
      free(table->slots);
      free(table->labels);
    }

    static int fr_text_grow(fr_text_table *table) {
      const uint64_t slots = (table->mask + 1) * 4;
      uint64_t *wider = (uint64_t *)calloc(slots, sizeof(uint64_t));
      fr_text *labels = (fr_text *)realloc(table->labels, slots / 2 * sizeof(fr_text));
      if (labels) table->labels = labels;
      if (!wider || !labels) {
        free(wider);
        return 0;
      }
      for (uint64_t s = 0; s <= table->mask; ++s) {
        if (!table->slots[s]) continue;
        uint64_t at = (table->slots[s] >> 32) & (slots - 1);
        while (wider[at]) at = (at + 1) & (slots - 1);
        wider[at] = table->slots[s];
      }
      free(table->slots);
      table->slots = wider;
      table->mask = slots - 1;
      table->room = (int64_t)(slots / 2);
      return 1;
    }

    // The text's code, which is new where it equals table->count as it was before; -1 where memory ran out.
    static inline int64_t fr_text_code(fr_text_table *table, fr_text text, uint32_t hash) {
      uint64_t at = hash & table->mask;
      for (; table->slots[at]; at = (at + 1) & table->mask) {
        const uint64_t slot = table->slots[at];
        if (slot >> 32 == hash && fr_text_equal(table->labels[(slot & 0xFFFFFFFFu) - 1], text))
          return (int64_t)(slot & 0xFFFFFFFFu) - 1;
      }
      if (table->count == table->room) {
        if (!fr_text_grow(table)) return -1;
        for (at = hash & table->mask; table->slots[at];) at = (at + 1) & table->mask;
      }
      table->labels[table->count] = text;
      table->slots[at] = (uint64_t)hash << 32 | (uint64_t)(table->count + 1);
      return table->count++;
    }

    // The code of a text that is in the table, or -1.
    static inline int64_t fr_text_known(const fr_text_table *table, fr_text text, uint32_t hash) {
      for (uint64_t at = hash & table->mask; table->slots[at]; at = (at + 1) & table->mask) {
        const uint64_t slot = table->slots[at];
        if (slot >> 32 == hash && fr_text_equal(table->labels[(slot & 0xFFFFFFFFu) - 1], text))
          return (int64_t)(slot & 0xFFFFFFFFu) - 1;
      }
      return -1;
    }

    enum { FR_TEXT_AHEAD = 32 };

    // Codes of texts that stand one after another in `bytes`; firsts: the row where each code first comes, as many as are
    // returned, room for `rows`.  -1: no memory.
    #define FR_TEXT_ENCODE(name, offset_type)                                                                          \
      static int64_t name(const offset_type *offsets, const char *bytes, int64_t rows, int32_t *codes, int64_t *firsts) { \
        fr_text_table table;                                                                                           \
        fr_text texts[FR_TEXT_AHEAD], before = {bytes, -1};                                                            \
        uint32_t hashes[FR_TEXT_AHEAD];                                                                                \
        int64_t code = -1, count = -1, start = 0;                                                                      \
        if (!fr_text_open(&table)) goto done;                                                                          \
        for (; start < rows; start += FR_TEXT_AHEAD) {                                                                 \
          const int size = rows - start < FR_TEXT_AHEAD ? (int)(rows - start) : FR_TEXT_AHEAD;                         \
          for (int i = 0; i < size; ++i) {                                                                             \
            texts[i].bytes = bytes + offsets[start + i];                                                               \
            texts[i].size = (int64_t)(offsets[start + i + 1] - offsets[start + i]);                                    \
            hashes[i] = fr_text_hash(texts[i]);                                                                        \
          }                                                                                                            \
          for (int i = 0; i < size; ++i) {                                                                             \
            if (!fr_text_equal(texts[i], before)) {                                                                    \
              const int64_t known = table.count;                                                                       \
              code = fr_text_code(&table, texts[i], hashes[i]);                                                        \
              if (code < 0) goto done;                                                                                 \
              if (code == known) firsts[code] = start + i;                                                             \
              before = texts[i];                                                                                       \
            }                                                                                                          \
            codes[start + i] = (int32_t)code;                                                                          \
          }                                                                                                            \
        }                                                                                                              \
        count = table.count;                                                                                           \
      done:                                                                                                            \
        fr_text_close(&table);                                                                                         \
        return count;                                                                                                  \
      }

    FR_TEXT_ENCODE(fr_text_encode32, int32_t)
    FR_TEXT_ENCODE(fr_text_encode64, int64_t)

    #if defined(__GNUC__)
    #define FR_FETCH(address) __builtin_prefetch(address)
    #else
    #define FR_FETCH(address) ((void)0)
    #endif

    // The same for Python's strings, which lie anywhere: those of the next rows are fetched meanwhile.  -1: not all are
    // strings; -2: no memory.
    static int64_t fr_text_encode_objects(PyObject **objects, int64_t rows, int32_t *codes, int64_t *firsts) {
      fr_text_table table;
      fr_text texts[FR_TEXT_AHEAD], before = {NULL, -1};
      uint32_t hashes[FR_TEXT_AHEAD];
      int64_t code = -1, count = -2, start = 0;
      if (!fr_text_open(&table)) goto done;
      for (; start < rows; start += FR_TEXT_AHEAD) {
        const int size = rows - start < FR_TEXT_AHEAD ? (int)(rows - start) : FR_TEXT_AHEAD;
        for (int i = 0; i < size; ++i) {
          PyObject *object = objects[start + i];
          if (start + i + FR_TEXT_AHEAD < rows) {
            FR_FETCH(objects[start + i + FR_TEXT_AHEAD]);
            FR_FETCH((const char *)objects[start + i + FR_TEXT_AHEAD] + 48);
          }
          if (!object || !PyUnicode_CheckExact(object)) {
            count = -1;
            goto done;
          }
          if (PyUnicode_IS_COMPACT_ASCII(object)) {
            texts[i].bytes = (const char *)PyUnicode_DATA(object);
            texts[i].size = (int64_t)PyUnicode_GET_LENGTH(object);
          } else {
            Py_ssize_t length = 0;
            texts[i].bytes = PyUnicode_AsUTF8AndSize(object, &length);
            texts[i].size = (int64_t)length;
            if (!texts[i].bytes) {  // a lone surrogate
              PyErr_Clear();
              count = -1;
              goto done;
            }
          }
          hashes[i] = fr_text_hash(texts[i]);
          FR_FETCH(table.slots + (hashes[i] & table.mask));
        }
        for (int i = 0; i < size; ++i) {
          if (!fr_text_equal(texts[i], before)) {
            const int64_t known = table.count;
            code = fr_text_code(&table, texts[i], hashes[i]);
            if (code < 0) goto done;
            if (code == known) firsts[code] = start + i;
            before = texts[i];
          }
          codes[start + i] = (int32_t)code;
        }
      }
      count = table.count;
    done:
      fr_text_close(&table);
      return count;
    }

    // Texts of Python's strings; 0: not all are strings that UTF-8 can hold.
    static int fr_text_of_objects(PyObject **objects, int64_t rows, fr_text *texts) {
      for (int64_t i = 0; i < rows; ++i) {
        PyObject *object = objects[i];
        if (i + FR_TEXT_AHEAD < rows) FR_FETCH(objects[i + FR_TEXT_AHEAD]);
        if (!object || !PyUnicode_CheckExact(object)) return 0;
        Py_ssize_t length = 0;
        if (PyUnicode_IS_COMPACT_ASCII(object)) {
          texts[i].bytes = (const char *)PyUnicode_DATA(object);
          length = PyUnicode_GET_LENGTH(object);
        } else {
          texts[i].bytes = PyUnicode_AsUTF8AndSize(object, &length);
          if (!texts[i].bytes) {
            PyErr_Clear();
            return 0;
          }
        }
        texts[i].size = (int64_t)length;
      }
      return 1;
    }

    // Where in `here` each text of `there` stands, -1: nowhere.  Both are distinct; the fewer go into the table.
    static int fr_text_find(const fr_text *here, int64_t heres, const fr_text *there, int64_t theres, int64_t *out) {
      fr_text_table table;
      const int few_here = heres <= theres;
      const fr_text *few = few_here ? here : there, *many = few_here ? there : here;
      const int64_t size = few_here ? heres : theres, rest = few_here ? theres : heres;
      int done = fr_text_open(&table);
      for (int64_t i = 0; done && i < size; ++i) done = fr_text_code(&table, few[i], fr_text_hash(few[i])) >= 0;
      for (int64_t i = 0; i < theres; ++i) out[i] = -1;
      for (int64_t start = 0; done && start < rest; start += FR_TEXT_AHEAD) {
        uint32_t hashes[FR_TEXT_AHEAD];
        const int ahead = rest - start < FR_TEXT_AHEAD ? (int)(rest - start) : FR_TEXT_AHEAD;
        for (int i = 0; i < ahead; ++i) {
          hashes[i] = fr_text_hash(many[start + i]);
          FR_FETCH(table.slots + (hashes[i] & table.mask));
        }
        for (int i = 0; i < ahead; ++i) {
          const int64_t code = fr_text_known(&table, many[start + i], hashes[i]);
          if (code < 0) continue;
          if (few_here) out[start + i] = code;
          else out[code] = start + i;
        }
      }
      fr_text_close(&table);
      return done;
    }
    """
    ctypedef struct fr_text:
        const char *bytes
        int64_t size
    int fr_text_of_objects(PyObject **objects, int64_t rows, fr_text *texts)
    int fr_text_find(const fr_text *here, int64_t heres, const fr_text *there, int64_t theres, int64_t *out) nogil
    int64_t fr_text_encode32(const int32_t *offsets, const char *bytes, int64_t rows, int32_t *codes,
                             int64_t *firsts) nogil
    int64_t fr_text_encode64(const int64_t *offsets, const char *bytes, int64_t rows, int32_t *codes,
                             int64_t *firsts) nogil
    int64_t fr_text_encode_objects(PyObject **objects, int64_t rows, int32_t *codes, int64_t *firsts)


def encode(const int32_t[::1] offsets32, const int64_t[::1] offsets64, const uint8_t[::1] data, int32_t[::1] codes,
           int64_t[::1] firsts) -> int:
    """Codes of the texts ``data[offsets[i]:offsets[i + 1]]``, one of the two offsets being None.

    ``firsts``, as long as ``codes``: the row where each code first comes.  Returns how many codes there are.
    """
    cdef int64_t rows = codes.shape[0], count
    cdef const char *bytes = NULL
    if rows == 0:
        return 0
    if data.shape[0]:
        bytes = <const char *>&data[0]
    else:
        bytes = b""
    with nogil:
        if offsets32 is not None:
            count = fr_text_encode32(&offsets32[0], bytes, rows, &codes[0], &firsts[0])
        else:
            count = fr_text_encode64(&offsets64[0], bytes, rows, &codes[0], &firsts[0])
    if count < 0:
        raise MemoryError("no memory for a table of ids")
    return count


def encode_objects(texts, int32_t[::1] codes, int64_t[::1] firsts) -> int:
    """The same for a contiguous array of Python's strings; -1 where something else, or text that UTF-8 cannot hold, is
    among them."""
    cdef int64_t count
    cdef Py_buffer view  # a typed view of objects would have to be writable
    if codes.shape[0] == 0:
        return 0
    PyObject_GetBuffer(texts, &view, PyBUF_CONTIG_RO | PyBUF_FORMAT)
    try:
        count = fr_text_encode_objects(<PyObject **>view.buf, codes.shape[0], &codes[0], &firsts[0])
    finally:
        PyBuffer_Release(&view)
    if count < -1:
        raise MemoryError("no memory for a table of ids")
    return count


cdef class Texts:
    """Where the bytes of texts are.  The arrays that hold them must outlive this."""
    cdef fr_text *at
    cdef int64_t size

    def __dealloc__(self):
        free(self.at)


cdef Texts _texts(int64_t size):
    cdef Texts texts = Texts()
    texts.size = size
    texts.at = <fr_text *>malloc(max(size, 1) * sizeof(fr_text))
    if texts.at == NULL:
        raise MemoryError("no memory for a table of ids")
    return texts


def texts_in(const int32_t[::1] offsets32, const int64_t[::1] offsets64, const uint8_t[::1] data) -> Texts:
    """The texts ``data[offsets[i]:offsets[i + 1]]``, one of the two offsets being None."""
    cdef int64_t row, rows = (offsets64.shape[0] if offsets32 is None else offsets32.shape[0]) - 1
    cdef Texts texts = _texts(rows)
    cdef const char *bytes = b""
    if data.shape[0]:
        bytes = <const char *>&data[0]
    for row in range(rows):
        if offsets32 is not None:
            texts.at[row].bytes = bytes + offsets32[row]
            texts.at[row].size = offsets32[row + 1] - offsets32[row]
        else:
            texts.at[row].bytes = bytes + offsets64[row]
            texts.at[row].size = offsets64[row + 1] - offsets64[row]
    return texts


def texts_of(objects, int64_t rows) -> Texts | None:
    """Those of a contiguous array of Python's strings; None where something else, or text that UTF-8 cannot hold, is
    among them."""
    cdef Texts texts = _texts(rows)
    cdef Py_buffer view
    cdef int good
    if rows == 0:
        return texts
    PyObject_GetBuffer(objects, &view, PyBUF_CONTIG_RO | PyBUF_FORMAT)
    try:
        good = fr_text_of_objects(<PyObject **>view.buf, rows, texts.at)
    finally:
        PyBuffer_Release(&view)
    return texts if good else None


def find(Texts here, Texts there, int64_t[::1] out) -> None:
    """Where in ``here`` each text of ``there`` stands, -1: nowhere; the texts of each are distinct."""
    cdef int good
    if there.size == 0:
        return
    with nogil:
        good = fr_text_find(here.at, here.size, there.at, there.size, &out[0])
    if not good:
        raise MemoryError("no memory for a table of ids")
