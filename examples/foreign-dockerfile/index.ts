import { RemoteBuilder } from "@gh200/gh200-vllm/builder";
import { BuildStage } from "@gh200/gh200-vllm/stages";
import * as pulumi from "@pulumi/pulumi";

const config = new pulumi.Config();
const repository = config.require("repository");
const builder = new RemoteBuilder("builder", { endpoint: config.get("endpoint"), platform: config.get("platform") });

const wheels = new BuildStage("wheels", { builder, dockerfile: "Dockerfile", target: "wheels", repository });
// The image takes the stage by its digest: while the wheels stay the same, an edit of src builds this alone.
const app = new BuildStage(
    "app",
    {
        builder,
        dockerfile: "Dockerfile",
        target: "app",
        namedContexts: { wheels: pulumi.interpolate`docker-image://${wheels.imageRef}` },
        repository,
    },
    { dependsOn: [wheels] },
);

/** `REPOSITORY@DIGEST` of the image. */
export const imageRef = app.imageRef;
