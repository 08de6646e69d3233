/**
 * What each command of the pages' blocks needs. `run`: tests/program/docs.test.ts runs it. `by`: that file runs the same command, as
 * the text in it shows. `needs`: what no test here has.
 */
export type Handling = { run: true } | { by: string; text: string } | { needs: string };

const run: Handling = { run: true };
const by = (file: string, text: string): Handling => ({ by: file, text });
const needs = (what: string): Handling => ({ needs: what });

const approve = by("tests/support/approvedProgram.ts", '["approval/approve.ts", "-s", "gh200"');

/** By the command, without its comment. */
export const commands: Record<string, Handling> = {
    "npm run sandbox": by("tests/live/liveSandbox.ts", 'this.main("up", '),
    "npm test": needs("itself: it runs this test"),
    "npm run init": needs("a person at a terminal; tests/unit/init*.test.ts have the questions and what they accept"),
    "npm run init -- --yes --stack prod --builder tcp://gh200.example:1234 --builder-ca ca.pem --builder-cert cert.pem --builder-key key.pem --registry registry.example/vllm --user ci --context gh200 --node root@gh200.example --builder-place serving-stops --model Qwen/Qwen2.5-7B-Instruct --approver none":
        by("tests/program/init.test.ts", 'init("--yes", "--offline", "--stack", "made", ...answers)'),
    "npm run pulumi -- preview --stack gh200": by("tests/program/docs.test.ts", '"pulumi", "--", "preview", "--stack", "gh200"'),
    "npm run preview:report -- -s gh200 --temporary": by("tests/program/docs.test.ts", '"preview:report", "--", "-s", "gh200", "--temporary"'),
    "npm run status": needs("a sandbox with a deployed stack; tests/unit/status.test.ts has what it prints"),
    "npm run prune": needs("a sandbox with a deployed stack; tests/unit/prunable.test.ts has what it chooses"),
    "npm run bootstrap": needs("half an hour, where the tools are not there yet; every suite with a tool calls what it calls (ensureTools)"),
    "npm run doctor": by("tests/program/docs.test.ts", '"doctor"'),
    "npm run sandbox:status": by("sandbox/sandbox.test.ts", 'command(first, "status")'),
    "npm run sandbox:down": by("sandbox/sandbox.test.ts", 'command(first, "down")'),

    "npm run node:check -- --host root@NODE": by("tests/unit/nodeCheck.test.ts", 'check(["--host", "root@gh200"]'),
    "npm run node:check -- --host root@NODE --stack gh200": by("tests/unit/nodeCheck.test.ts", '"--stack", "gh200"]'),
    "npm run node:check -- --files FOLDER": by("tests/unit/nodeCheck.test.ts", 'check(["--files", savedOn(sourceDocument)])'),
    "npm run node:check -- --capacity-job IMAGE@sha256:DIGEST --stack gh200 | kubectl apply -f -": by(
        "tests/unit/nodeCheck.test.ts",
        'check(["--capacity-job", ',
    ),

    "kubectl get secret gh200-vllm-api-key -n vllm -o jsonpath='{.data.api-key}' | base64 -d": needs("a cluster with a deployed stack"),

    "npm run pins -- --stack gh200": by("tests/program/pins.test.ts", '"pins/main.ts"), "--stack", "test"'),
    "npm run pins -- --stack gh200 --write": by("tests/program/pins.test.ts", 'pins(text, "--write")'),
    "npm run approve -- -s gh200": approve,
    "npm run approved -- -s gh200": by("tests/support/approvedProgram.ts", '["approval/check.ts", "-s", "gh200"'),
    "npm run approve -- -s gh200 --rollback REASON": by("tests/program/approval.test.ts", '"--rollback", '),
    "npm run approve -- -s gh200 --destroy REASON": by("tests/live/rules.test.ts", 'approve("--destroy", '),
    "git add approvals/gh200.json": needs("an approval by a person"),
    "git checkout COMMIT -- .": needs("an earlier commit of a user's own repository"),
    "pulumi preview --stack gh200": by("tests/program/preview.test.ts", '["preview", "--stack", "gh200"]'),
    "pulumi up --stack gh200": needs("a GH200; with the sandbox's builder and node: tests/live/graph.test.ts"),
    "pulumi destroy --stack gh200 --run-program": by("tests/live/rules.test.ts", '["destroy", "--run-program", '),

    "docker buildx build --platform linux/arm64 --target build-vllm -o type=local,dest=out assets/vllm": by(
        "tests/live/stages.test.ts",
        "--target build-vllm leaves the stage's wheel",
    ),
    "docker buildx history ls --builder gh200": by("tests/live/stages.test.ts", '["history", "ls"'),
    "docker buildx history inspect attachment BUILD --builder gh200 --type provenance": by("tests/live/stages.test.ts", '["history", "inspect", "attachment"'),

    // docs/production.md: one after another, in one folder.
    "HOST=gh200.example.com": run,
    "umask 077": run,
    'issue() { openssl req -x509 -config /dev/null -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "$@"; }': run,
    'issue -keyout ca-key.pem -out ca.pem -days 3650 -subj "/CN=gh200 builder CA" -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign':
        run,
    'issue -keyout key.pem -out cert.pem -days 365 -subj "/CN=$HOST" -CA ca.pem -CAkey ca-key.pem -addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=serverAuth -addext "subjectAltName=DNS:$HOST"':
        run,
    'issue -keyout client-key.pem -out client-cert.pem -days 365 -subj "/CN=gh200-vllm" -CA ca.pem -CAkey ca-key.pem -addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=clientAuth':
        run,
    "openssl verify -CAfile ca.pem cert.pem client-cert.pem": run,
    "pulumi stack init gh200": run,
    'pulumi config set --stack gh200 --path gh200-vllm:builder.endpoint "tcp://$HOST:1234"': run,
    "pulumi config set --stack gh200 --path gh200-vllm:builder.caCertificate < ca.pem": run,
    "pulumi config set --stack gh200 --path gh200-vllm:builder.clientCertificate < client-cert.pem": run,
    "pulumi config set --stack gh200 --secret gh200-vllm:builderClientKey < client-key.pem": run,
    "pulumi config set --stack gh200 --path gh200-vllm:registry.address atl.vultrcr.com/vllm": run,
    "pulumi config set --stack gh200 --path gh200-vllm:registry.username NAME": run,
    "pulumi config set --stack gh200 --secret gh200-vllm:registryPassword < password": run,
    "pulumi config set --stack gh200 --path gh200-vllm:registry.pullUsername PULLER": run,
    "pulumi config set --stack gh200 --secret gh200-vllm:registryPullPassword < pull-password": run,
    "pulumi config set --stack gh200 --path gh200-vllm:image.use REPOSITORY@sha256:DIGEST": run,

    "npm run pulumi -- config set --path gh200-vllm:image.vllmVersion cmm --stack gh200": run,
    "pulumi config set --path gh200-vllm:sources.src-vllm.path ../vllm": run,
    'pulumi config set --secret gh200-vllm:gitTokens \'{"sweetapi.com": "TOKEN"}\'': run,
};

/** First lines of indented blocks that are no commands. */
export const notCommands = [
    "gh200                       CmmPlatform        the whole platform",
    "request = limit = host processes + host overflow + pinned + /dev/shm + headroom",
    "who approves changes, change 5ad0c3… (not approved):",
    "change digest: 0d26d3fe… (an update is refused:)",
    "tcp://10.0.0.1:1234 is building build-vllm for stack gh200-vllm/gh200 since 14:02 UTC (31 min), build 8xk2…",
    "path: value: what is wrong; accepted: what would be; how to mend it",
];

/** Pages whose blocks are held to the table. What examples and tests say of themselves is run by their own tests. */
export const isGuide = (page: string): boolean => page === "README.md" || page.startsWith("docs/");
