import { describe, expect, test } from "vitest";
import { missingAccess } from "../../ci/access";
import { problemLine } from "../../components/internal/errors";

const passphrase = "encryptionsalt: v1:abc\nconfig: {}\n";
const kms = "secretsprovider: awskms://alias/state?region=eu-central-1\nencryptedkey: abc\nconfig: {}\n";
const none = "config: {}\n";
const [s3, cloud] = [{ PULUMI_BACKEND_URL: "s3://state" }, { PULUMI_ACCESS_TOKEN: "token" }];

describe("the state of a stack", () => {
    test.each([
        ["S3 and a key service", kms, s3],
        ["Google's storage and Vault", "secretsprovider: hashivault://key\n", { PULUMI_BACKEND_URL: "gs://state" }],
        ["Azure's storage and key vault", "secretsprovider: azurekeyvault://vault/keys/key\n", { PULUMI_BACKEND_URL: "azblob://state" }],
        ["Pulumi Cloud", none, cloud],
        ["Pulumi Cloud by its address", none, { ...cloud, PULUMI_BACKEND_URL: "https://api.pulumi.com" }],
        ["Pulumi Cloud and a key service", kms, cloud],
        ["S3 and a passphrase", passphrase, { ...s3, PULUMI_CONFIG_PASSPHRASE: "passphrase" }],
        ["S3 and a passphrase in a file", passphrase, { ...s3, PULUMI_CONFIG_PASSPHRASE_FILE: "/passphrase" }],
        ["a login of this machine, and a passphrase", passphrase, { PULUMI_CONFIG_PASSPHRASE: "passphrase" }],
    ])("of %s is read with what its provider needs", (_, file, environment) => expect(missingAccess(file, environment)).toBeUndefined());

    // A forge hands an absent secret on as an empty variable.
    const empty = { PULUMI_BACKEND_URL: "", PULUMI_ACCESS_TOKEN: "", PULUMI_CONFIG_PASSPHRASE: "" };
    test.each([
        ["nothing", passphrase, empty, /^PULUMI_BACKEND_URL: is unset, so the stack's state is not found; accepted: s3:\/\/BUCKET, .* or PULUMI_ACCESS_TOKEN/],
        ["no backend", kms, {}, /^PULUMI_BACKEND_URL: is unset/],
        ["S3 without its passphrase", passphrase, { ...empty, ...s3 }, /^PULUMI_CONFIG_PASSPHRASE: is unset, .*; pulumi stack change-secrets-provider$/],
        ["S3 and a stack that names no provider", none, s3, /^PULUMI_CONFIG_PASSPHRASE/],
        ["Pulumi Cloud without a token", none, { PULUMI_BACKEND_URL: "https://api.pulumi.com" }, /^PULUMI_ACCESS_TOKEN: is unset/],
        ["Pulumi Cloud and a stack that was made with a passphrase", passphrase, cloud, /^PULUMI_CONFIG_PASSPHRASE/],
        ["an empty stack file", "", s3, /^PULUMI_CONFIG_PASSPHRASE/],
    ])("of %s is not read, and one line says what is missing", (_, file, environment, line) =>
        expect(problemLine(missingAccess(file, environment)!)).toMatch(line),
    );
});
