import * as pulumi from "@pulumi/pulumi";
import { expect, test } from "vitest";
import { gitSecrets } from "../../components/internal/gitAuth";

const tokens = { "git.example.com": "hunter2", "127.0.0.1:8080": "hunter3", "127.0.0.1.example.com": "hunter4" };

async function told(location: string): Promise<Record<string, string>> {
    const { secrets } = gitSecrets(tokens, [location]) as { secrets?: pulumi.Output<Record<string, string>> };
    return secrets === undefined ? {} : new Promise((done) => void secrets.apply(done));
}

test.each([
    ["https", "https://git.example.com/a.git#main", { "GIT_AUTH_TOKEN.git.example.com": "hunter2" }],
    ["http on this machine", "http://127.0.0.1:8080/a.git", { "GIT_AUTH_TOKEN.127.0.0.1:8080": "hunter3" }],
    ["http elsewhere", "http://git.example.com/a.git#main", {}],
    ["http in capitals", "HTTP://git.example.com/a.git", {}],
    ["http at a host that looks like this machine", "http://127.0.0.1.example.com/a.git", {}],
    ["ssh, which has keys of its own", "ssh://git@git.example.com/a.git", {}],
    ["a folder", "git.example.com", {}],
    ["an image", "docker-image://git.example.com/a", {}],
])("a token goes over %s to its host, or nowhere", async (_, location, expected) => {
    expect(await told(location)).toEqual(expected);
});
