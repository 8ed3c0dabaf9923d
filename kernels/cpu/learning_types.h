// Plain structs shared by the learning bodies and their binding.
#pragma once
#include "common.h"
