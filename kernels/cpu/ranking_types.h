// Plain structs shared by the ranking bodies and their binding.
#pragma once
#include "common.h"
