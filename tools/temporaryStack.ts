import * as fs from "node:fs";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import * as yaml from "yaml";
import { PREVIEW_WITHOUT_SECRETS } from "../components/internal/withoutSecrets";
import { Engine } from "./engine";
import { Problem } from "./toolchain";

/** A stack that exists for one preview alone. */
export interface TemporaryStack {
    engine: Engine;
    /** What Pulumi's environment needs to find it. */
    environment: NodeJS.ProcessEnv;
    /** Its configuration; `--config-file` takes it. */
    configFile: string;
}

/**
 * A new local stack in `folder` with the configuration of a stack file. Encrypted values are left out: nobody here can read them, and a
 * preview does without. The stack file and the checkout stay as they are.
 */
export async function temporaryStack(stack: string, stackFile: string, folder: string): Promise<TemporaryStack> {
    if (!fs.existsSync(stackFile)) {
        throw new Problem(`${stackFile}: is missing; accepted: the configuration of stack ${stack}`);
    }
    const { config = {} } = yaml.parse(fs.readFileSync(stackFile, "utf8")) as { config?: Record<string, unknown> };
    const plain = Object.fromEntries(Object.entries(config).filter(([, value]) => !(typeof value === "object" && value !== null && "secure" in value)));
    const configFile = path.join(folder, `Pulumi.${stack}.yaml`);
    const environment = {
        PULUMI_BACKEND_URL: pathToFileURL(folder).href,
        PULUMI_CONFIG_PASSPHRASE: "",
        PULUMI_ACCESS_TOKEN: "",
        [PREVIEW_WITHOUT_SECRETS]: "true",
    };
    const engine = await Engine.of(stack, configFile, environment);
    await engine.create(folder);
    fs.writeFileSync(configFile, yaml.stringify({ config: plain }));
    return { engine, environment, configFile };
}
