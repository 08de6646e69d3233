import * as fs from "node:fs";
import * as https from "node:https";
import * as os from "node:os";
import * as path from "node:path";
import { json } from "node:stream/consumers";
import { KubeConfig } from "@kubernetes/client-node";
import type { Problem } from "../components/internal/errors";

const answerTimeoutMs = 10_000;

/** The kubeconfig that Pulumi's Kubernetes provider would take here; undefined where there is none. */
export function ambientKubeconfig(): KubeConfig | undefined {
    const file = (process.env.KUBECONFIG ?? "").split(path.delimiter).find(Boolean) ?? path.join(os.homedir(), ".kube", "config");
    if (!fs.existsSync(file)) {
        return undefined;
    }
    const config = new KubeConfig();
    config.loadFromDefault();
    return config;
}

/** Whether the context is there, which is a question for this machine alone. */
export function contextProblems(context: string): Problem[] {
    const problem = (wrong: string, accepted = "a context of the ambient kubeconfig, or none"): Problem => ({
        path: "--context",
        value: context,
        wrong,
        accepted,
        fix: "set KUBECONFIG, or take --context none for a cluster that is still to come",
    });
    try {
        const names = ambientKubeconfig()?.contexts.map(({ name }) => name);
        if (names === undefined) {
            return [problem("there is no kubeconfig here")];
        }
        return names.includes(context) ? [] : [problem("is no context of the kubeconfig", [...names, "none"].join(", "))];
    } catch (error) {
        return [problem(`the kubeconfig cannot be read (${(error as Error).message.split("\n")[0]})`)];
    }
}

/** The current context, to be offered; undefined where there is none. */
export function currentContext(): string | undefined {
    try {
        return ambientKubeconfig()?.getCurrentContext();
    } catch {
        return undefined;
    }
}

/** Version of the API server behind a context. Rejects with a sentence. */
export async function apiServerVersion(context: string): Promise<string> {
    const config = ambientKubeconfig() ?? new KubeConfig();
    config.setCurrentContext(context);
    const server = config.getCurrentCluster()?.server ?? "";
    const options: https.RequestOptions = { timeout: answerTimeoutMs };
    await config.applyToHTTPSOptions(options);
    return new Promise((resolve, reject) => {
        const request = https.get(`${server}/version`, options, (response) => {
            if (response.statusCode !== 200) {
                response.resume();
                reject(new Error(`${server} answered ${response.statusCode}`));
                return;
            }
            json(response).then((version) => resolve((version as { gitVersion: string }).gitVersion), reject);
        });
        request.on("timeout", () => request.destroy(new Error(`${server} did not answer within ${answerTimeoutMs / 1000} s`)));
        request.once("error", reject);
    });
}
