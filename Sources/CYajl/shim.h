/* libyajl's headers, and the one function of its that Swift's importer cannot see, for its variable arguments. */
#ifndef ROMULUS_CYAJL_SHIM_H
#define ROMULUS_CYAJL_SHIM_H

#include <yajl/yajl_gen.h>
#include <yajl/yajl_tree.h>

static inline void romulus_yajl_gen_beautify(yajl_gen generator)
{
    yajl_gen_config(generator, yajl_gen_beautify, 1);
}

#endif
