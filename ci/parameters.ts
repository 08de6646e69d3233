import * as fs from "node:fs";
import * as path from "node:path";
import * as yaml from "yaml";
import { main, Problem } from "../tools/report";

/** The source document's pipeline parameters and the configuration that each one is. docs/from-jenkins.md shows the same table. */
export const parameters: readonly { name: string; section: string; key: string }[] = [
    { name: "VLLM_VERSION", section: "gh200-vllm:image", key: "vllmVersion" },
    { name: "IMAGE_TAG", section: "gh200-vllm:image", key: "imageTag" },
    { name: "IMAGE_SUFFIX", section: "gh200-vllm:image", key: "imageSuffix" },
];

/** A stack file with the parameters put over it. One that is unset or empty leaves the file's own value. */
export function withParameters(stackFile: string, environment: NodeJS.ProcessEnv): string {
    const stack = yaml.parse(stackFile) as { config: Record<string, Record<string, unknown>> };
    for (const { name, section, key } of parameters) {
        const value = environment[name] ?? "";
        if (value !== "") {
            if (!/^[A-Za-z0-9_.-]{1,100}$/.test(value)) {
                throw new Problem(`${name}: ${JSON.stringify(value)}: is no part of an image's name; accepted: letters, digits, dot, dash, underscore`);
            }
            stack.config[section] = { ...stack.config[section], [key]: value };
        }
    }
    return yaml.stringify(stack);
}

if (require.main === module) {
    main(async () => {
        const [stack = "", target = ""] = process.argv.slice(2);
        const file = path.resolve(__dirname, "..", `Pulumi.${stack}.yaml`);
        if (!/^[A-Za-z0-9_.-]+$/.test(stack) || target === "" || !fs.existsSync(file)) {
            throw new Problem("usage: tsx ci/parameters.ts STACK FILE, with VLLM_VERSION, IMAGE_TAG and IMAGE_SUFFIX in the environment");
        }
        fs.writeFileSync(target, withParameters(fs.readFileSync(file, "utf8"), process.env));
        return 0;
    });
}
