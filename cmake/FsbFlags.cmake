# SPDX-License-Identifier: Apache-2.0
# One interface target, fsb_flags, with the warnings and instrumentation that all of our own code is compiled with, and
# fsb_add_executable for programs (they link jemalloc unless a sanitizer is on).
add_library(fsb_flags INTERFACE)
target_compile_definitions(fsb_flags INTERFACE _GNU_SOURCE $<$<BOOL:${FSB_FAILPOINTS}>:FSB_FAILPOINTS=1>)
target_compile_options(fsb_flags INTERFACE
  -Wall -Wextra -Wshadow -Wvla -Wundef -Wwrite-strings -Wpointer-arith -Wformat=2 -Wcast-qual
  -Wno-unused-parameter -Wno-missing-field-initializers -Wno-format-zero-length
  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes -Wmissing-prototypes>
  $<$<BOOL:${FSB_WERROR}>:-Werror>
  -fno-strict-aliasing -fvisibility=hidden -fno-omit-frame-pointer)
if(FSB_SANITIZE)
  target_compile_options(fsb_flags INTERFACE -fsanitize=${FSB_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(fsb_flags INTERFACE -fsanitize=${FSB_SANITIZE})
  if(FSB_SANITIZE STREQUAL "thread")
    # It does not see fences, and gcc says so: the few that there are stand between processes, which it does not see either.
    target_compile_options(fsb_flags INTERFACE $<$<COMPILE_LANG_AND_ID:C,GNU>:-Wno-tsan>)
  endif()
endif()
if(FSB_COVERAGE)
  target_compile_options(fsb_flags INTERFACE --coverage)
  target_link_options(fsb_flags INTERFACE --coverage)
endif()

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
if(FSB_JEMALLOC AND NOT FSB_SANITIZE)
  pkg_check_modules(JEMALLOC REQUIRED IMPORTED_TARGET jemalloc)
endif()

function(fsb_link_allocator target)
  if(TARGET PkgConfig::JEMALLOC)
    # --no-as-needed: nothing refers to jemalloc by name, it replaces malloc.
    target_link_options(${target} PRIVATE -Wl,--no-as-needed)
    target_link_libraries(${target} PRIVATE PkgConfig::JEMALLOC)
  endif()
endfunction()

# fsb_add_executable(NAME SOURCES... [LIBS ...] [NO_INSTALL])
function(fsb_add_executable name)
  cmake_parse_arguments(ARG "NO_INSTALL" "" "LIBS" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE fsb_flags ${ARG_LIBS})
  fsb_link_allocator(${name})
  if(NOT ARG_NO_INSTALL)
    install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endfunction()

# fsb_add_test(NAME SOURCES... [LIBS ...] [TIMEOUT seconds] [LABELS ...]): a cmocka program, run by ctest as one process.
function(fsb_add_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "LIBS;LABELS" ${ARGN})
  if(NOT FSB_TESTS)
    return()
  endif()
  if(NOT TARGET PkgConfig::CMOCKA)
    pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET GLOBAL cmocka)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE fsb_flags ${ARG_LIBS} PkgConfig::CMOCKA)
  fsb_link_allocator(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
  math(EXPR limit "${ARG_TIMEOUT} * ${FSB_TIMEOUT_FACTOR}")
  set_tests_properties(${name} PROPERTIES TIMEOUT ${limit} LABELS "${ARG_LABELS}")
endfunction()
