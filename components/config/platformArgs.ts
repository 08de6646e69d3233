import * as dockerBuild from "@pulumi/docker-build";
import { Provider as KubernetesProvider } from "@pulumi/kubernetes/provider";
import * as pulumi from "@pulumi/pulumi";
import { type CmmPlatformArgs, settlePlatform } from "../platform/cmmPlatformArgs";
import { refuseOpenPoints } from "../platform/openPoints";
import type { StackConfig } from "./load";

/** The stack's configuration as the platform takes it; refused here already, before the providers exist. */
export function platformArgs(config: StackConfig): CmmPlatformArgs & Required<Pick<CmmPlatformArgs, "node" | "serving">> {
    const { secrets } = config;
    const args = {
        builder: { ...config.builder, clientKey: secrets.builderClientKey },
        registry: { ...config.registry, password: secrets.registryPassword, pullPassword: secrets.registryPullPassword },
        image: config.image,
        sources: config.sources,
        gitTokens: secrets.gitTokens?.apply((text) => JSON.parse(text) as Record<string, string>),
        stages: config.stages,
        node: config.node,
        serving: { ...config.serving, hfToken: secrets.hfToken, kubeconfig: secrets.kubeconfig, kubeContext: config.cluster.context },
    };
    refuseOpenPoints(settlePlatform(args));
    return args;
}

/** The two providers that the platform's children inherit. */
export function platformProviders(config: StackConfig): Record<string, pulumi.ProviderResource> {
    return {
        // The registry's credentials are with each image (imageCredentials). DOCKER_HOST of whoever runs the update says nothing about
        // where is built. A change of either would replace the provider, and with it every image.
        "docker-build": new dockerBuild.Provider("builds", {}, { ignoreChanges: ["host", "registries"] }),
        kubernetes: new KubernetesProvider("cluster", {
            kubeconfig: config.secrets.kubeconfig,
            context: config.cluster.context,
            clusterIdentifier: config.cluster.identifier,
        }),
    };
}
