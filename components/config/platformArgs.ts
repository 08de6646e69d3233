import * as dockerBuild from "@pulumi/docker-build";
import { Provider as KubernetesProvider } from "@pulumi/kubernetes/provider";
import * as pulumi from "@pulumi/pulumi";
import { registryHost } from "../image/reference";
import { type CmmPlatformArgs, settlePlatform } from "../platform/cmmPlatformArgs";
import { refuseOpenPoints } from "../platform/openPoints";
import type { StackConfig } from "./load";

/** The stack's configuration as the platform takes it; refused here already, before the providers exist. */
export function platformArgs(config: StackConfig): CmmPlatformArgs {
    const { secrets } = config;
    const args: CmmPlatformArgs = {
        builder: { ...config.builder, clientKey: secrets.builderClientKey },
        registry: { ...config.registry, password: secrets.registryPassword },
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
    const { username } = config.registry;
    return {
        "docker-build": new dockerBuild.Provider(
            "builds",
            {
                registries:
                    username === undefined
                        ? []
                        : [{ address: registryHost(config.registry.address), username, password: config.secrets.registryPassword }],
            },
            // It comes from DOCKER_HOST of whoever runs the update, says nothing about where is built, and would replace every image.
            { ignoreChanges: ["host"] },
        ),
        kubernetes: new KubernetesProvider("cluster", {
            kubeconfig: config.secrets.kubeconfig,
            context: config.cluster.context,
            clusterIdentifier: config.cluster.identifier,
        }),
    };
}
