import * as pulumi from "@pulumi/pulumi";

/** Who pushes and pulls images at a registry. */
export interface ImageCredentials {
    /** Host of the registry, with its port. */
    address: pulumi.Input<string>;
    /** User; nothing is added without one. */
    username: string | undefined;
    /** That user's password; secret. */
    password: pulumi.Input<string> | undefined;
}

/**
 * Gives every docker-build Image below a component the credentials of its registry.
 *
 * Not by the provider: another password there replaces the provider, and with it every image. An image's own
 * password is left out of what docker-build compares (0.0.22, image.go: Diff), so a rotated one builds nothing again.
 */
export function imageCredentials({ address, username, password }: ImageCredentials): pulumi.ResourceTransformation[] {
    if (username === undefined) {
        return [];
    }
    const registries = [{ address, username, password: pulumi.secret(password ?? "") }];
    return [
        ({ type, props, opts }) =>
            type === "docker-build:index:Image"
                ? { props: { ...(props as object), registries }, opts: pulumi.mergeOptions(opts, { additionalSecretOutputs: ["registries"] }) }
                : undefined,
    ];
}
