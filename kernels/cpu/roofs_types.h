// Plain structs shared by the roofs bodies and their binding.
#pragma once
#include "common.h"
