// Plain structs shared by the evaluation bodies and their binding.
#pragma once
#include "common.h"
