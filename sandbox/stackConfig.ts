import { createHash, randomBytes } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import { sandboxState } from "../tools/environment";
import type { Sandbox } from "./daemons";
import { CHECKOUT, type Layout, writeFile } from "./layout";
import { run } from "./processes";

export const STACK = "sandbox";

/** What of the stack's configuration differs from sandbox to sandbox. */
export interface StackValues {
    readonly plain: Record<string, string>;
    readonly secret: Record<string, string>;
}

// The tag of the NGC image that the base stands in for. A name is for people; what is pulled is the digest.
const BASE_TAG = "26.03-py3";

export function stackValues(layout: Layout, sandbox: Sandbox & { base: string }): StackValues {
    const { registry, builder } = sandbox;
    const [baseName, baseDigest] = sandbox.base.split("@") as [string, string];
    const read = (file: string): string => fs.readFileSync(file, "utf8");
    return {
        plain: {
            "builder.endpoint": builder.endpoint,
            "builder.serverName": builder.serverName,
            "builder.caCertificate": read(builder.client.ca),
            "builder.clientCertificate": read(builder.client.cert),
            "registry.address": `${registry.address}/vllm`,
            "registry.username": registry.username,
            "image.base.name": `${baseName}:${BASE_TAG}`,
            "image.base.digest": baseDigest,
        },
        secret: {
            builderClientKey: read(builder.client.key),
            registryPassword: read(registry.passwordFile),
            kubeconfig: read(layout.kubeconfig),
        },
    };
}

/** Before anything asks for Pulumi's environment: the passphrase is part of it. */
export function ensurePassphrase(layout: Layout): void {
    const { passphraseFile } = sandboxState(layout.dir);
    if (!fs.existsSync(passphraseFile)) {
        writeFile(passphraseFile, randomBytes(24).toString("base64url"));
    }
}

/**
 * The committed Pulumi.sandbox.yaml with this sandbox's values put over it, in the sandbox's folder. Written by Pulumi itself,
 * in a project of the same name that has no program, so that the committed file stays as it is.
 */
export async function ensureStackConfig(layout: Layout, values: StackValues, pulumi: { path: string; env: NodeJS.ProcessEnv }): Promise<void> {
    const committed = fs.readFileSync(path.join(CHECKOUT, "Pulumi.sandbox.yaml"), "utf8");
    const project = fs.readFileSync(path.join(CHECKOUT, "Pulumi.yaml"), "utf8");
    const inputs = path.join(layout.pulumi, "stack-config.sha256");
    const fingerprint = createHash("sha256")
        .update(JSON.stringify([committed, project, values]))
        .digest("hex");
    if (fs.existsSync(layout.stackConfig) && fs.existsSync(inputs) && fs.readFileSync(inputs, "utf8") === fingerprint) {
        return;
    }
    const work = path.join(layout.pulumi, "stack-config");
    const file = path.join(work, path.basename(layout.stackConfig));
    writeFile(path.join(work, "Pulumi.yaml"), project);
    writeFile(file, committed + encryptionSalt(layout));

    const name = /^name:\s*(\S+)/m.exec(project)?.[1] ?? "";
    const cli = (args: string[], input?: string): Promise<string> =>
        run(pulumi.path, [...args, "--non-interactive", `--cwd=${work}`], { env: pulumi.env, ...(input !== undefined && { input }) });
    if (!fs.existsSync(path.join(layout.pulumi, ".pulumi", "stacks", name, `${STACK}.json`))) {
        await cli(["stack", "init", STACK, "--no-select", "--secrets-provider=passphrase"]);
    }
    const at = ["--stack", STACK];
    await cli(["config", "set-all", ...at, "--path", ...Object.entries(values.plain).flatMap(([key, value]) => ["--plaintext", `${name}:${key}=${value}`])]);
    for (const [key, value] of Object.entries(values.secret)) {
        // By standard input: an argument is seen by everybody on the machine.
        await cli(["config", "set", ...at, "--secret", `${name}:${key}`], value);
    }
    fs.chmodSync(file, 0o600);
    fs.renameSync(file, layout.stackConfig);
    writeFile(inputs, fingerprint);
}

/** The stack was created with it; a new one would make the state's secrets unreadable. */
function encryptionSalt(layout: Layout): string {
    const written = fs.existsSync(layout.stackConfig) ? fs.readFileSync(layout.stackConfig, "utf8") : "";
    return /^encryptionsalt: .*\n/m.exec(written)?.[0] ?? "";
}
