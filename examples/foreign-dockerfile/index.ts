import { RemoteBuilder } from "@gh200/gh200-vllm/builder";
import { BuildStage } from "@gh200/gh200-vllm/stages";
import * as pulumi from "@pulumi/pulumi";

const config = new pulumi.Config();
const builder = new RemoteBuilder("builder", {
    endpoint: config.get("endpoint"),
    platform: config.get("platform"),
    serverName: config.get("serverName"),
    caCertificate: config.get("caCertificate"),
    clientCertificate: config.get("clientCertificate"),
    clientKey: config.getSecret("clientKey"),
    allowEmulation: config.getBoolean("allowEmulation"),
});
const shared = {
    builder,
    dockerfile: "Dockerfile",
    repository: config.require("repository"),
    buildArgs: config.getObject<Record<string, string>>("buildArgs"),
};

const library = new BuildStage("library", { ...shared, target: "library" });
// A stage that others build on is given to them by its digest: while it stays the same, an edit of theirs builds theirs alone.
const program = new BuildStage(
    "program",
    { ...shared, target: "program", namedContexts: { library: pulumi.interpolate`docker-image://${library.imageRef}` } },
    { dependsOn: [library] },
);
const app = new BuildStage(
    "app",
    {
        ...shared,
        target: "app",
        namedContexts: {
            library: pulumi.interpolate`docker-image://${library.imageRef}`,
            program: pulumi.interpolate`docker-image://${program.imageRef}`,
        },
    },
    { dependsOn: [program] },
);

/** `REPOSITORY@DIGEST` of the image that ships. */
export const imageRef = app.imageRef;
