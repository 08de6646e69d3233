import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import * as yaml from "yaml";
import { beforeAll, describe, expect, test } from "vitest";
import { sections } from "../../components/config/schema";
import { problemLine } from "../../components/internal/errors";
import { planNode } from "../../components/node/planNode";
import type { Answers } from "../../init/answers";
import { declare, nodeRemarks } from "../../init/declaration";
import { answerProblems, missingProblems } from "../../init/problems";
import { questions } from "../../init/questions";
import { stackFileText } from "../../init/stackFile";
import { writeCertificatePair } from "../support/certificatePair";
import { answerLines, completeAnswers } from "../support/initAnswers";
import { egmOff, recommended, savedNodes } from "../support/nodeTexts";
import { repositoryRoot } from "../support/stackFile";
import { temporaryFolders, writeTree } from "../support/temporaryFolder";

const models = path.join(repositoryRoot, "tests", "fixtures", "models");

const temporaryFolder = temporaryFolders();

let tls: { cert: string; folder: string };
beforeAll(() => {
    const folder = fs.mkdtempSync("/tmp/gh200-init-test-");
    ["one", "other"].forEach((name) => writeCertificatePair(folder, name));
    tls = { folder, cert: fs.readFileSync(path.join(folder, "one.pem"), "utf8") };
    return () => fs.rmSync(folder, { recursive: true, force: true });
});

describe("the stack file", () => {
    const parsed = (text: string) => yaml.parse(text) as { config: Record<string, Record<string, unknown>> } & Record<string, unknown>;

    test("holds what was answered, each value with its meaning, and passes the program's own schemas", () => {
        const text = stackFileText(declare(completeAnswers));
        expect(text).toContain(
            [
                "  gh200-vllm:node:",
                "    egmEnabled: false # Whether Extended GPU Memory is on in the BIOS",
                "    coherentMode: driver # How HBM is managed",
                "    managedGiB: 200 # Managed memory wanted in all, HBM included",
                "    builderPlace: elsewhere # Where images are built, as seen from this node",
                "  gh200-vllm:serving:",
                "    model: Qwen/Qwen2.5-7B-Instruct # Model as `vllm serve` takes it",
                "    maxModelLenTokens: 8192 # Longest context",
                "    modelGiB: 14.2 # Size of the model's files; modelShape's weights where absent",
                "  gh200-vllm:cluster:",
                "    identifier: prod # Name of the cluster, constant for its life: a new address or certificate then replaces nothing",
                "  gh200-vllm:approval:",
                "    required: false # Whether an update needs an approval",
            ].join("\n"),
        );
        const { config } = parsed(text);
        const required = Object.entries(sections).filter(([name]) => name !== "sources");
        expect(Object.keys(config)).toEqual(expect.arrayContaining(required.map(([name]) => `gh200-vllm:${name}`)));
        for (const [name, schema] of required) {
            expect(schema.safeParse(config[`gh200-vllm:${name}`]).error).toBeUndefined();
        }
    });

    test("has the certificates as text and never the key", () => {
        const text = stackFileText(
            declare({
                ...completeAnswers,
                "builder-ca": `${tls.folder}/one.pem`,
                "builder-cert": `${tls.folder}/one.pem`,
                "builder-key": `${tls.folder}/one.key`,
            }),
        );
        expect(parsed(text).config["gh200-vllm:builder"]).toEqual({ endpoint: "tcp://localhost:1234", caCertificate: tls.cert, clientCertificate: tls.cert });
        expect(text).not.toContain("PRIVATE KEY");
    });

    test("keeps of the file that it takes the place of what only Pulumi can make, and nothing else", () => {
        const before =
            "encryptionsalt: v1:salt\nconfig:\n  gh200-vllm:registryPassword:\n    secure: v1:secret\n  gh200-vllm:builder:\n    endpoint: tcp://old:1\n  gh200-vllm:sources: { src-vllm: { ref: old } }\n";
        const after = parsed(stackFileText(declare(completeAnswers), before));
        expect(after.encryptionsalt).toBe("v1:salt");
        expect(after.config["gh200-vllm:registryPassword"]).toEqual({ secure: "v1:secret" });
        expect(after.config["gh200-vllm:builder"]).toEqual({ endpoint: "tcp://localhost:1234" });
        expect(Object.keys(after.config)).not.toContain("gh200-vllm:sources");
    });

    test("declares a node that was measured by what it said", () => {
        const saved = temporaryFolder();
        writeTree(saved, { "nvidia-smi": egmOff["nvidia-smi"]!, "numactl.txt": egmOff["numactl --hardware"]!, params: egmOff["/proc/driver/nvidia/params"]! });
        const { node } = declare({ ...completeAnswers, profile: undefined, node: saved });
        expect(node).toMatchObject({ hbmMiB: 97_871, egmEnabled: false, coherentMode: "numa", lpddrGiB: 480 });
        expect(planNode(node!).plan.profile).toBe("numa");
    });

    test.each<[string, object]>([
        ["gh200-120gb", { hbmMiB: 97_871, hbmInUseMiB: 0, lpddrGiB: 120, egmEnabled: false, coherentMode: "numa" }],
        ["gh200-120gb-quad", { hbmMiB: 97_871, lpddrGiB: 119.6, egmEnabled: false }],
        ["gh200-120gb-quad-driver", { hbmInUseMiB: 0, lpddrGiB: 120, coherentMode: "driver" }],
        ["gh200-144g-dual", { hbmMiB: 146_831, lpddrGiB: 471.3 }],
        ["gh200-480gb-vm", { lpddrGiB: 431.9, egmEnabled: false }],
        ["gh200-480gb-numa-fake", { lpddrGiB: 480 }],
    ])("declares %s by one GPU's measured share", (name, measured) => {
        const { node } = declare({ ...completeAnswers, profile: undefined, node: path.join(savedNodes, name) });
        expect(node).toMatchObject(measured);
        const answers = { ...completeAnswers, profile: undefined, node: path.join(savedNodes, name), managed: "100", "builder-memory": "50" };
        expect(answerLines(answers)).toEqual([]);
    });

    test("declares huge pages that a node holds", () => {
        const saved = temporaryFolder();
        writeTree(saved, {
            "nvidia-smi": recommended["nvidia-smi"]!,
            "numactl.txt": recommended["numactl --hardware"]!,
            params: recommended["/proc/driver/nvidia/params"]!,
            meminfo: "Hugetlb:        131072000 kB\n",
        });
        const { node } = declare({ ...completeAnswers, profile: undefined, node: saved });
        expect(node).toMatchObject({ lpddrGiB: 480, hugePagesMiB: 128_000 });
        expect(planNode(node!).plan.view.lpddrMiB).toBe(490_037 - 128_000);
        expect(nodeRemarks({ node: saved })).toEqual(["huge pages hold 125.0 GiB of the LPDDR, which no pod of this stack gets"]);
        expect(nodeRemarks({ node: "none" })).toEqual([]);
    });

    test.each([
        ["h200", "NVIDIA H200 is no GH200"],
        ["h20", "NVIDIA H20 is no GH200"],
        ["gh200-480gb-mig", "NVIDIA GH200 480GB with MIG enabled divides its HBM between instances, and a plan is for a whole GPU"],
        ["gh200-480gb-busy", "did not say its NUMA nodes"],
    ])("refuses %s in one line", (name, wrong) => {
        const node = path.join(savedNodes, name);
        expect(answerLines({ ...completeAnswers, profile: undefined, node })).toEqual([
            `--node: ${node}: ${wrong}; accepted: NAME or USER@NAME of a GH200 that ssh reaches, or a folder as of npm run node:check -- --files; --node none --profile PROFILE declares the node instead`,
        ]);
    });

    test("names the node where what it said cannot be planned", () => {
        const saved = temporaryFolder();
        const busy = egmOff["nvidia-smi"]!.replace(" 512 MiB", " 97000 MiB");
        writeTree(saved, { "nvidia-smi": busy, "numactl.txt": egmOff["numactl --hardware"]!, params: egmOff["/proc/driver/nvidia/params"]! });
        expect(answerLines({ ...completeAnswers, profile: undefined, node: saved })).toEqual([
            `--node: ${saved}: leaves nothing of the HBM; accepted: below 97871 less a reserve`,
        ]);
    });

    const shape = (model: string, weights = "none") =>
        declare({ ...completeAnswers, weights, "model-config": path.join(models, `${model}.json`) }).serving.modelShape;

    test("has the model's shape from its config.json, its weights and those of them that a token reads included", () => {
        expect(shape("deepseek-v3")).toEqual({
            weightsGiB: 626.77,
            activeWeightsGiB: 35.07,
            attention: [{ kind: "latent", layers: 61, headDim: 576 }],
            maxPositionTokens: 163_840,
        });
        expect(shape("gpt-oss-120b")).toMatchObject({
            attention: [
                { kind: "sliding", layers: 18, kvHeads: 8, headDim: 64, windowTokens: 128 },
                { kind: "full", layers: 18, kvHeads: 8, headDim: 64 },
            ],
        });
    });

    test("has a multimodal model's decoder, and weights as they were given", () => {
        expect(shape("gemma-3-4b", "8.6")).toMatchObject({
            weightsGiB: 8.6,
            attention: [
                { kind: "sliding", layers: 29, kvHeads: 4, headDim: 256, windowTokens: 1024 },
                { kind: "full", layers: 5, kvHeads: 4, headDim: 256 },
            ],
        });
    });

    test("has the weights of a model's folder from its index, or from its files", () => {
        const folder = temporaryFolder();
        fs.copyFileSync(path.join(models, "llama-3.1-8b.json"), path.join(folder, "config.json"));
        const weights = () => declare({ ...completeAnswers, weights: "none", "model-config": folder }).serving;
        fs.writeFileSync(path.join(folder, "model-00001-of-00001.safetensors"), Buffer.alloc(2 ** 25));
        expect(weights()).toMatchObject({ modelGiB: 0.03, modelShape: { weightsGiB: 0.03 } });
        fs.writeFileSync(path.join(folder, "model.safetensors.index.json"), JSON.stringify({ metadata: { total_size: 16_060_522_496 } }));
        expect(weights()).toMatchObject({ modelGiB: 14.96, modelShape: { weightsGiB: 14.96 } });
    });

    test("of a model of an unknown kind has its weights alone, and says so", () => {
        const folder = temporaryFolder();
        writeTree(folder, { "config.json": '{"model_type": "nobody_knows", "num_hidden_layers": 2}' });
        const declared = declare({ ...completeAnswers, weights: "60", "model-config": folder });
        expect(declared.serving.modelShape).toEqual({ weightsGiB: 60 });
        expect(declared.remarks).toEqual(["how this model caches is not known (model_type nobody_knows): its KV cache is unchecked"]);
        expect(answerLines({ ...completeAnswers, weights: "none", "model-config": folder })).toEqual([
            `--weights: is missing, and the weights cannot be computed from ${folder} (model_type nobody_knows); accepted: size of all weights in GiB; give it, or leave --model-config out`,
        ]);
    });
});

describe("a bad answer", () => {
    test("is absent from good answers", () => {
        expect([...missingProblems(completeAnswers), ...answerProblems(completeAnswers)]).toEqual([]);
    });

    test.each<[Answers, string]>([
        [
            { stack: "gh200" },
            "--stack: gh200: has the file Pulumi.gh200.yaml already; accepted: a new stack; take another name, or --force to write the file anew",
        ],
        [{ stack: "my stack" }, "--stack: my stack: is no name of a stack; accepted: letters, digits, dashes, dots and underscores, at most 100"],
        [{ builder: "gh200:1234" }, "--builder: gh200:1234: is no BuildKit address; accepted: tcp://HOST:PORT"],
        [
            { builder: "tcp://gh200:1234", "builder-ca": "none" },
            "--builder-ca: none: is unset, so that the connection to tcp://gh200:1234 is neither encrypted nor authenticated; accepted: PEM text of the CA that signed the daemon's certificate; give --builder-ca, --builder-cert and --builder-key",
        ],
        [{ "builder-ca": "/nowhere/ca.pem" }, "--builder-ca: /nowhere/ca.pem: cannot be read (ENOENT); accepted: a file with a certificate as PEM text"],
        [{ "builder-cert": __filename }, `--builder-cert: ${__filename}: holds no certificate; accepted: a file with a certificate as PEM text`],
        [{ "builder-key": __filename }, `--builder-key: ${__filename}: holds no private key; accepted: a file with a private key as PEM text`],
        [{ registry: "registry.example" }, "--registry: registry.example: is no registry and namespace; accepted: HOST/NAMESPACE"],
        [{ profile: "both" }, "--profile: both: is no memory profile; accepted: egm-numa, egm-driver, numa, driver"],
        [{ "builder-place": "moon" }, "--builder-place: moon: is not accepted; accepted: elsewhere, serving-stops or beside-serving"],
        [
            { profile: "egm-numa", "acknowledge-egm": "no" },
            "--acknowledge-egm: no: EGM hides 472.0 GiB of LPDDR from Linux, where managed memory cannot be shown to reach it; accepted: egmEnabled: false (recommended, with coherentMode: driver); turn EGM off in the BIOS and take --profile driver, or add --acknowledge-egm",
        ],
        [
            { "builder-place": "serving-stops", "builder-memory": "600" },
            "--builder-memory: 600: is more than Linux has when vLLM is scaled to zero; accepted: at most 473653 (462.6 GiB); lower --builder-memory, or build on another machine (--builder-place elsewhere)",
        ],
        [{ "builder-memory": "4" }, "--builder-memory: 4: is too small; accepted: 10 or more"],
        [{ "builder-memory": "much" }, "--builder-memory: much: is no number; accepted: a number"],
        [{ "builder-cores": "7.5" }, "--builder-cores: 7.5: is no whole number; accepted: a whole number"],
        [{ managed: "-1" }, "--managed: -1: is too small; accepted: more than 0"],
        [{ model: "a/b/c" }, "--model: a/b/c: is no name of a model; accepted: NAME or OWNER/NAME of Hugging Face, or an absolute path in the image or cache"],
        [
            { model: "owner/two--dashes" },
            "--model: owner/two--dashes: is no name of a model; accepted: NAME or OWNER/NAME of Hugging Face, or an absolute path in the image or cache",
        ],
        [
            { "model-config": __filename },
            `--model-config: ${__filename}: is no JSON object; accepted: the config.json of a decoder, as Hugging Face has it, or the folder that has it`,
        ],
        [
            { node: "/nowhere/" },
            "--node: /nowhere/: cannot be asked (is no folder that is there); accepted: NAME or USER@NAME of a GH200 that ssh reaches, or a folder as of npm run node:check -- --files; --node none --profile PROFILE declares the node instead",
        ],
        [
            { node: "root@gh200", offline: "yes" },
            "--node: root@gh200: is not asked with --offline; accepted: a folder with what was saved on the node, or none; --node none --profile PROFILE",
        ],
    ])("%j", (change, line) => {
        expect(answerLines({ ...completeAnswers, ...change })).toEqual([line]);
    });

    test("of a model that does not fit says by how much, in the terms of the flags", () => {
        expect(answerLines({ ...completeAnswers, "model-config": path.join(models, "llama-3.1-8b.json"), weights: "900" })).toEqual([
            "--weights: 900: exceeds 89.7 GiB of HBM and 104.4 GiB of host memory by 705.9 GiB; accepted: weights that fit; take more GPUs, or quantise",
        ]);
        // 352.6 GiB more could be declared.
        expect(answerLines({ ...completeAnswers, "model-config": path.join(models, "llama-3.1-8b.json"), weights: "400" })).toEqual([
            "--weights: 400: exceeds 89.7 GiB of HBM and 104.4 GiB of host memory by 205.9 GiB; accepted: weights that fit; raise --managed, take more GPUs, or quantise",
        ]);
        expect(answerLines({ ...completeAnswers, "model-config": path.join(models, "deepseek-v3.json"), weights: "none" })).toEqual([
            expect.stringMatching(/^--model-config: \S+deepseek-v3\.json: exceeds 89\.7 GiB of HBM and 104\.4 GiB of host memory by 432\.7 GiB; /),
        ]);
    });

    test("of a context that is longer than the model knows, or than fits", () => {
        const answers = { ...completeAnswers, weights: "none" };
        expect(answerLines({ ...answers, "model-config": path.join(models, "llama-3.1-8b.json"), "max-model-len": "262144" })).toEqual([
            "--max-model-len: 262144: is more than the model's own longest context, which vLLM refuses; accepted: at most 131072; lower it, or correct modelShape.maxPositionTokens",
        ]);
        // With rope scaling: 4,096 by 40.
        expect(answerLines({ ...answers, weights: "60", "model-config": path.join(models, "deepseek-v3.json"), "max-model-len": "163840" })).toEqual([]);
    });

    test("and every other one is told at once, and every missing one", () => {
        expect(answerLines({ ...completeAnswers, builder: "x", registry: "y", model: "z z" }).map((line) => line.split(":")[0])).toEqual([
            "--model",
            "--builder",
            "--registry",
        ]);
        expect(missingProblems({}).map(problemLine)).toEqual([
            "--stack: is missing; accepted: letters, digits, dashes, dots and underscores; add --stack",
            "--builder: is missing; accepted: tcp://HOST:PORT; add --builder",
            "--registry: is missing; accepted: HOST/NAMESPACE; add --registry",
            "--repository: is missing; accepted: a name; add --repository",
            "--user: is missing; accepted: a name, or none; add --user",
            "--context: is missing; accepted: a context, or none for the one that is current at an update; add --context",
            "--node: is missing; accepted: NAME or USER@NAME for ssh, FOLDER/ with what was saved on it, or none; add --node",
            "--builder-place: is missing; accepted: elsewhere, serving-stops, beside-serving; add --builder-place",
            "--builder-memory: is missing; accepted: a number of GiB; add --builder-memory",
            "--builder-cores: is missing; accepted: a number; add --builder-cores",
            "--managed: is missing; accepted: a number of GiB, or none for HBM alone; add --managed",
            "--model: is missing; accepted: NAME or OWNER/NAME of Hugging Face, or a path; add --model",
            "--max-model-len: is missing; accepted: a number of tokens; add --max-model-len",
            "--model-config: is missing; accepted: a file or a folder, or none; add --model-config",
            "--weights: is missing; accepted: a number of GiB, or none for what follows from the model's config; add --weights",
            "--approver: is missing; accepted: a principal of approvals/allowed_signers, or none; add --approver",
        ]);
    });

    test("a key that is another certificate's, and an expired certificate", () => {
        const { folder } = tls;
        execFileSync("openssl", ["x509", "-in", `${folder}/one.pem`, "-signkey", `${folder}/one.key`, "-days", "-1", "-out", `${folder}/expired.pem`], {
            stdio: "ignore",
        });
        expect(answerLines({ ...completeAnswers, "builder-cert": `${folder}/one.pem`, "builder-key": `${folder}/other.key` })).toEqual([
            `--builder-key: ${folder}/other.key: is not the key of ${folder}/one.pem; accepted: the key that the certificate was made with`,
        ]);
        expect(answerLines({ ...completeAnswers, "builder-ca": `${folder}/expired.pem` })).toEqual([
            expect.stringMatching(/^--builder-ca: .*expired\.pem: expired on .* GMT; accepted: a file with a certificate as PEM text$/),
        ]);
    });
});

test("docs/init.md names every flag", () => {
    const page = fs.readFileSync(path.join(repositoryRoot, "docs", "init.md"), "utf8");
    const named = [...page.matchAll(/^\| (`--.*?) \|/gm)].flatMap(([, cell]) => [...cell!.matchAll(/`--([a-z-]+)`/g)].map(([, flag]) => flag));
    expect(named).toEqual(questions.map(({ flag }) => flag));
});
