import * as fs from "node:fs";
import * as os from "node:os";
import type { KubeConfig } from "@kubernetes/client-node";
import * as pulumi from "@pulumi/pulumi";

/** The cluster that the Kubernetes provider of a resource deploys to. */
export interface ClusterAccess {
    /** kubeconfig as text or the path of one; the ambient one where empty. */
    kubeconfig: string;
    /** Context of it; the current one where empty. */
    context: string;
    /** Cluster of it in place of the context's; the context's where empty. */
    cluster: string;
}

/**
 * What the Kubernetes provider of a resource was configured with, so that whoever asks the cluster asks the one that was deployed to:
 * an explicit provider's inputs, which the engine hands out whatever language made it, else the `kubernetes:` keys of the stack, which
 * configure the default one.
 *
 * @param fallback for a program whose default provider is configured where it cannot be seen.
 */
export function clusterAccess(resource: pulumi.Resource, fallback: pulumi.Output<Partial<ClusterAccess>>): pulumi.Output<ClusterAccess> {
    const provider = resource.getProvider("kubernetes:core/v1:Pod");
    const settings: pulumi.Output<Settings> = provider === undefined ? pulumi.output(defaultSettings(fallback)) : provider.urn.apply(providerSettings);
    return pulumi.secret(settings.apply(({ kubeconfig = "", context = "", cluster = "" }) => ({ kubeconfig, context, cluster })));
}

type Settings = { [K in keyof ClusterAccess]?: string | undefined };

function defaultSettings(fallback: pulumi.Output<Partial<ClusterAccess>>): pulumi.Output<Settings> {
    const config = new pulumi.Config("kubernetes");
    return fallback.apply((given) => ({
        kubeconfig: config.get("kubeconfig") ?? given.kubeconfig,
        context: config.get("context") ?? given.context,
        cluster: config.get("cluster") ?? given.cluster,
    }));
}

async function providerSettings(urn: string): Promise<Settings> {
    const { state } = (await pulumi.runtime.invoke("pulumi:pulumi:getResource", { urn })) as { state: Settings };
    return state;
}

/** Half a second to load, so only where a cluster is asked. */
export async function kubeConfig({ kubeconfig, context, cluster }: ClusterAccess): Promise<KubeConfig> {
    const { KubeConfig } = await import("@kubernetes/client-node");
    const config = new KubeConfig();
    if (kubeconfig === "") {
        config.loadFromDefault();
    } else if (fs.existsSync(atHome(kubeconfig))) {
        config.loadFromFile(atHome(kubeconfig));
    } else {
        config.loadFromString(kubeconfig);
    }
    if (context !== "") {
        config.setCurrentContext(context);
    }
    if (cluster !== "") {
        config.contexts = config.contexts.map((entry) => (entry.name === config.currentContext ? { ...entry, cluster } : entry));
    }
    return config;
}

function atHome(path: string): string {
    return path.replace(/^~(?=$|\/)/, os.homedir());
}
