import * as pulumi from "@pulumi/pulumi";

/** Set by whoever previews a stack without its secrets, as for a pull request from a fork. */
export const PREVIEW_WITHOUT_SECRETS = "GH200_PREVIEW_WITHOUT_SECRETS";

/** Whether what is missing may be a secret that this preview was not given. */
export function isWithoutSecrets(): boolean {
    return pulumi.runtime.isDryRun() && (process.env[PREVIEW_WITHOUT_SECRETS] ?? "") !== "";
}
