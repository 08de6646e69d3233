// Entry of the source-based plug-in: the compiled package where npm made one, else the TypeScript of a checkout,
// which is transpiled as it is loaded and not checked.
const fs = require("node:fs");
const path = require("node:path");

const compiled = path.join(__dirname, "bin", "plugin.js");
if (!fs.existsSync(compiled)) {
    const ts = require("typescript");
    const compilerOptions = { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022, esModuleInterop: true };
    require.extensions[".ts"] = (module, file) => {
        const source = fs.readFileSync(file, "utf8");
        module._compile(ts.transpileModule(source, { fileName: file, compilerOptions }).outputText, file);
    };
}
module.exports = require(fs.existsSync(compiled) ? compiled : "./plugin.ts").serve;
