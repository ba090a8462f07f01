# SPDX-License-Identifier: Apache-2.0
# fsb_add_proto(TARGET DIR file.proto... [DEPENDS other_proto_targets]): protobuf-c code in the build tree, as a static library.
find_program(PROTOC_C protoc-c REQUIRED)
pkg_check_modules(PROTOBUF_C REQUIRED IMPORTED_TARGET GLOBAL libprotobuf-c)

function(fsb_add_proto target dir)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  set(out ${CMAKE_BINARY_DIR}/gen/${target})
  file(MAKE_DIRECTORY ${out})
  set(include_flags -I ${dir})
  foreach(dep ${ARG_DEPENDS})
    get_target_property(dep_dir ${dep} FSB_PROTO_DIR)
    list(APPEND include_flags -I ${dep_dir})
  endforeach()
  set(sources)
  foreach(proto ${ARG_UNPARSED_ARGUMENTS})
    get_filename_component(stem ${proto} NAME_WE)
    add_custom_command(
      OUTPUT ${out}/${stem}.pb-c.c ${out}/${stem}.pb-c.h
      COMMAND ${PROTOC_C} ${include_flags} --c_out=${out} ${dir}/${proto}
      DEPENDS ${dir}/${proto} VERBATIM)
    list(APPEND sources ${out}/${stem}.pb-c.c)
  endforeach()
  add_library(${target} STATIC ${sources})
  set_target_properties(${target} PROPERTIES FSB_PROTO_DIR ${dir})
  target_include_directories(${target} SYSTEM PUBLIC ${out})
  target_link_libraries(${target} PUBLIC PkgConfig::PROTOBUF_C ${ARG_DEPENDS})
endfunction()
