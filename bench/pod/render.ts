import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import * as yaml from "yaml";
import { Engine } from "../../tools/engine";
import { main, Problem } from "../../tools/report";

/*
 * `npx tsx bench/pod/render.ts STACK_FILE [--set SECTION.KEY=JSON ...]`: the Deployment that a preview of this program renders
 * for that stack, as JSON. For bench/pod/run.py, which starts exactly it on a GPU machine.
 */
main(async () => {
    const [file, ...settings] = process.argv.slice(2);
    if (file === undefined) {
        throw new Problem("usage: npx tsx bench/pod/render.ts STACK_FILE [--set SECTION.KEY=JSON ...]");
    }
    const { config } = yaml.parse(fs.readFileSync(file, "utf8")) as { config: Record<string, Record<string, unknown>> };
    for (const setting of settings.filter((word) => word !== "--set")) {
        const [, section, key, value] = /^([^.]+)\.([^=]+)=(.*)$/s.exec(setting) ?? [];
        const values = config[`gh200-vllm:${section}`];
        if (values === undefined || key === undefined || value === undefined) {
            throw new Problem(`--set: ${setting}: is no setting of this stack; accepted: SECTION.KEY=JSON`);
        }
        values[key] = JSON.parse(value) as unknown;
    }
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-pod-"));
    try {
        const stackFile = path.join(folder, "Pulumi.pod.yaml");
        const engine = await Engine.of("pod", stackFile, { PULUMI_BACKEND_URL: `file://${folder}`, PULUMI_CONFIG_PASSPHRASE: "", PULUMI_ACCESS_TOKEN: "" });
        await engine.create(folder);
        fs.writeFileSync(stackFile, yaml.stringify({ config }));
        const { events, output } = await engine.events("preview");
        const deployment = events.find(({ resourcePreEvent }) => resourcePreEvent?.metadata.type === "kubernetes:apps/v1:Deployment")?.resourcePreEvent
            ?.metadata.new?.inputs;
        if (deployment === undefined) {
            throw new Problem(`${file}: no Deployment was previewed: ${output.trim()}`);
        }
        console.log(JSON.stringify(deployment, null, 2));
        return 0;
    } finally {
        fs.rmSync(folder, { recursive: true, force: true });
    }
});
