// Node 22 and later keep V8's compiled code between runs: compiling the SDK is a sixth of a preview
// (bench/speed/RESULTS.md). Node 20 has no such cache, and where its folder cannot be written, nothing is kept.
process.getBuiltinModule("node:module").enableCompileCache?.();
