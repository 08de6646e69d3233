import { execFileSync, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as http from "node:http";
import type { AddressInfo } from "node:net";
import * as path from "node:path";

/** git's own server program behind HTTP on loopback, for every bare repository below a folder. */
export class GitServer {
    private constructor(
        readonly address: string,
        private readonly server: http.Server,
        /** `METHOD URL` of each request, refused ones too. */
        readonly requests: string[],
    ) {}

    /** @param authorization value of the Authorization header that is asked for; absent: everybody may read. */
    static async start(folder: string, authorization?: string): Promise<GitServer> {
        const backend = path.join(execFileSync("git", ["--exec-path"], { encoding: "utf8" }).trim(), "git-http-backend");
        const requests: string[] = [];
        const server = http.createServer((request, response) => {
            requests.push(`${request.method} ${request.url}`);
            if (authorization !== undefined && request.headers.authorization !== authorization) {
                response.writeHead(401, { "www-authenticate": 'Basic realm="git"' }).end();
                return;
            }
            const url = new URL(request.url ?? "/", "http://localhost");
            const cgi = spawn(backend, {
                env: {
                    PATH: process.env.PATH,
                    GIT_PROJECT_ROOT: folder,
                    GIT_HTTP_EXPORT_ALL: "1",
                    GIT_CONFIG_COUNT: "2",
                    GIT_CONFIG_KEY_0: "uploadpack.allowFilter",
                    GIT_CONFIG_VALUE_0: "true",
                    GIT_CONFIG_KEY_1: "safe.directory",
                    GIT_CONFIG_VALUE_1: "*",
                    REQUEST_METHOD: request.method,
                    PATH_INFO: url.pathname,
                    QUERY_STRING: url.search.slice(1),
                    CONTENT_TYPE: request.headers["content-type"] ?? "",
                    HTTP_CONTENT_ENCODING: request.headers["content-encoding"] ?? "",
                    GIT_PROTOCOL: (request.headers["git-protocol"] as string | undefined) ?? "",
                },
            });
            request.pipe(cgi.stdin);
            const chunks: Buffer[] = [];
            cgi.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
            cgi.on("close", () => {
                const answer = Buffer.concat(chunks);
                const end = answer.indexOf("\r\n\r\n");
                const headers = answer
                    .subarray(0, end)
                    .toString()
                    .split("\r\n")
                    .map((line) => line.split(": ", 2) as [string, string]);
                const status = Number(headers.find(([name]) => name.toLowerCase() === "status")?.[1].slice(0, 3) ?? 200);
                response.writeHead(status, Object.fromEntries(headers.filter(([name]) => name.toLowerCase() !== "status")));
                response.end(answer.subarray(end + 4));
            });
        });
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
        return new GitServer(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, server, requests);
    }

    close(): Promise<void> {
        this.server.closeAllConnections();
        return new Promise((resolve) => this.server.close(() => resolve()));
    }
}

/** A repository whose commits a test makes; `bare` is what a server serves. */
export class TestRepository {
    readonly work: string;

    constructor(
        readonly bare: string,
        files: Record<string, string> = { README: "one\n" },
    ) {
        this.work = `${bare}.work`;
        execFileSync("git", ["init", "--quiet", "--initial-branch=main", this.work]);
        this.commit(files);
        execFileSync("git", ["clone", "--quiet", "--bare", this.work, bare]);
    }

    git(...args: string[]): string {
        const who = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"];
        return execFileSync("git", ["-C", this.work, ...who, ...args], { encoding: "utf8" }).trim();
    }

    /** Commits the files, and gives the full commit. */
    commit(files: Record<string, string>): string {
        for (const [name, text] of Object.entries(files)) {
            fs.mkdirSync(path.dirname(path.join(this.work, name)), { recursive: true });
            fs.writeFileSync(path.join(this.work, name), text);
        }
        this.git("add", "--all");
        this.git("commit", "--quiet", "--allow-empty", "--message=change");
        return this.git("rev-parse", "HEAD");
    }

    push(): void {
        this.git("push", "--quiet", "--force", "--mirror", this.bare);
    }
}
