// node ci/comment.mjs FILE: puts a preview's comment on its pull request, or updates the one that is there. Plain JavaScript
// without packages, because it is the one step that holds a token which may write. The file is made by report/render.ts of uploaded facts.
//   FORGE_API     https://api.github.com, or https://HOST/api/v1 of a Gitea
//   REPOSITORY    OWNER/NAME
//   PULL_REQUEST  its number
//   HEAD_SHA      commit that was previewed: a comment for another one, or for another pull request, is refused
//   FORGE_TOKEN   may write comments
import { readFileSync } from "node:fs";

const need = (name, pattern) => {
    const value = (process.env[name] ?? "").trim();
    if (!pattern.test(value)) {
        console.error(`${name}: is missing or malformed`);
        process.exit(1);
    }
    return value;
};
const api = need("FORGE_API", /^https?:\/\/[^\s]+$/).replace(/\/$/, "");
const repository = need("REPOSITORY", /^[\w.-]+\/[\w.-]+$/);
const number = need("PULL_REQUEST", /^\d{1,9}$/);
const head = need("HEAD_SHA", /^[0-9a-f]{40}$/);
const token = need("FORGE_TOKEN", /^\S+$/);
const body = readFileSync(process.argv[2] ?? "preview.md", "utf8").slice(0, 65_000);
const marker = /^<!-- gh200-vllm preview of [\w.-]+ -->/.exec(body)?.[0];
if (marker === undefined) {
    console.error(`${process.argv[2]}: is no preview's comment`);
    process.exit(1);
}

async function call(method, path, data) {
    const response = await fetch(`${api}/repos/${repository}${path}`, {
        method,
        headers: { authorization: `token ${token}`, accept: "application/json", "content-type": "application/json" },
        ...(data && { body: JSON.stringify(data) }),
    });
    if (!response.ok) {
        throw new Error(`${method} ${path} answered ${response.status}`);
    }
    return response.json();
}

const pull = await call("GET", `/pulls/${number}`);
if (pull.head?.sha !== head) {
    console.error(`pull request ${number}: its head is not ${head}; the preview is of another commit`);
    process.exit(1);
}
let existing;
for (let page = 1; existing === undefined; page += 1) {
    const comments = await call("GET", `/issues/${number}/comments?per_page=100&limit=100&page=${page}`);
    // Anybody can write the marker into a comment of their own; a bot's is the one that was made here.
    existing = comments.find((comment) => comment.body.startsWith(marker) && comment.user?.type === "Bot");
    if (comments.length < 100) {
        break;
    }
}
await (existing === undefined ? call("POST", `/issues/${number}/comments`, { body }) : call("PATCH", `/issues/comments/${existing.id}`, { body }));
console.log(existing === undefined ? "commented" : "updated the comment");
