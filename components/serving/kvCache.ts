/**
 * How vLLM divides a decoder's KV cache on one GPU: pages, groups, tensors and blocks, as its
 * v1/kv_cache_interface.py and v1/core/kv_cache_utils.py compute them (0.19.0). Pure functions;
 * tests/runtime/test_kv_cache.py holds them to vLLM's own.
 */
import { AttentionKind, type AttentionLayersArgs } from "./modelShapeArgs";

/** vLLM's settings that decide the layout. */
export interface CacheTerms {
    /** Bytes of one cached value. */
    valueBytes: number;
    /** Bytes of a latent vector of one token, where the cache's type is no plain number (`fp8_ds_mla`). */
    latentTokenBytes?: number | undefined;
    tensorParallelSize: number;
    pipelineParallelSize: number;
    /** `--max-num-batched-tokens`: a sliding window is held with so many tokens more while a prompt is read. */
    maxBatchedTokens: number;
    /** `--block-size`, or vLLM's choice. */
    blockTokens?: number | undefined;
    /** Whether vLLM keeps kinds apart; a KV connector or `--disable-hybrid-kv-cache-manager` ends that, and windows are then kept whole. */
    hybrid: boolean;
}

/** Layers that share one table of blocks. */
export interface CacheGroup {
    kind: AttentionKind;
    /** Tokens of one block; of no meaning for a state. */
    blockTokens: number;
    windowTokens?: number | undefined;
}

export interface CacheLayout {
    groups: CacheGroup[];
    /** Tensors on one GPU, each as long as the others where there are several groups. */
    tensors: number;
    /** Layers that keep a cache on one GPU: the launcher leaves room for the roundings of so many tensors, the most that there can be. */
    layers: number;
    /** Bytes of one block over all tensors of a GPU. */
    blockBytes: number;
}

interface Spec extends CacheGroup {
    layers: number;
    /** Bytes of one block in one layer. */
    pageBytes: number;
}

/** CacheConfig.DEFAULT_BLOCK_SIZE; FlashAttention and its MLA, which Hopper GPUs get, take it. */
const defaultBlockTokens = 16;
/** The kernels of sparse MLA take blocks of 64 alone (v1/attention/backends/mla/flashmla_sparse.py, indexer.py). */
const sparseBlockTokens = 64;
/** What the block of attention beside a state is a multiple of (model_executor/models/config.py, HybridAttentionMambaModelConfig). */
const alignmentTokens = { attention: 16, latent: 64 };

/** The layout on the GPU that has most layers, or why vLLM refuses the model so. */
export function cacheLayout(layers: readonly AttentionLayersArgs[], terms: CacheTerms): CacheLayout | { refused: string } {
    const apart = blocks(merged(layers, terms), terms);
    const [first] = apart;
    if (first === undefined) {
        return { groups: [], tensors: 0, layers: 0, blockBytes: 0 };
    }
    const specs =
        terms.hybrid || apart.every((spec) => sameTokens(spec, first))
            ? apart
            : apart.map((spec) => (isBounded(spec) ? { ...spec, kind: AttentionKind.Full, windowTokens: undefined } : spec));
    const share = (count: number) => Math.ceil(count / terms.pipelineParallelSize);
    if (specs.every((spec) => sameTokens(spec, specs[0]!))) {
        // One group, whatever a token's size is in each layer.
        return {
            groups: [group(specs[0]!)],
            tensors: sum(specs.map((spec) => share(spec.layers))),
            layers: sum(specs.map((spec) => share(spec.layers))),
            blockBytes: sum(specs.map((spec) => share(spec.layers) * spec.pageBytes)),
        };
    }
    if (!terms.hybrid) {
        return { refused: "vLLM keeps a state beside attention only without a KV connector and without --disable-hybrid-kv-cache-manager" };
    }
    // A block has one size: of smaller tokens it holds more.
    const pageBytes = Math.max(...specs.map((spec) => spec.pageBytes));
    if (specs.some((spec) => pageBytes % spec.pageBytes !== 0)) {
        return { refused: `vLLM cannot divide blocks of ${pageBytes} bytes among layers of ${specs.map((spec) => spec.pageBytes).join(", ")}` };
    }
    const counts = specs.map((spec) => spec.layers);
    const [fewest, most] = [Math.min(...counts), Math.max(...counts)];
    const size = most < fewest * 1.5 ? most : fewest;
    const groups = specs.flatMap((spec) =>
        Array.from({ length: Math.ceil(spec.layers / size) }, () => ({ ...group(spec), blockTokens: spec.blockTokens * (pageBytes / spec.pageBytes) })),
    );
    return { groups, tensors: share(size), layers: sum(specs.map((spec) => share(spec.layers))), blockBytes: share(size) * pageBytes };
}

/** Blocks that one sequence of so many tokens may need at most. */
export function sequenceBlocks({ groups }: CacheLayout, tokens: number, maxBatchedTokens: number): number {
    return sum(
        groups.map(({ kind, blockTokens, windowTokens = 0 }) => {
            switch (kind) {
                case AttentionKind.State:
                    return 1;
                case AttentionKind.Sliding:
                    // A window may begin within a block.
                    return Math.ceil(Math.min(windowTokens - 1 + maxBatchedTokens, tokens) / blockTokens) + 1;
                case AttentionKind.Chunked:
                    return Math.ceil(Math.min(windowTokens + maxBatchedTokens, tokens) / blockTokens);
                default:
                    return Math.ceil(tokens / blockTokens);
            }
        }),
    );
}

/** Bytes on one GPU that a token adds to a long sequence. */
export function tokenBytes({ groups, blockBytes }: CacheLayout): number {
    return sum(groups.filter(grows).map(({ blockTokens }) => blockBytes / blockTokens));
}

/** The longest sequence that fits into so many blocks; Infinity where no length needs more. */
export function longestSequence(layout: CacheLayout, available: number, maxBatchedTokens: number): number {
    const fits = (tokens: number) => sequenceBlocks(layout, tokens, maxBatchedTokens) <= available;
    const growing = layout.groups.filter(grows);
    const bound = growing.length === 0 ? Number.MAX_SAFE_INTEGER : Math.max(...growing.map(({ blockTokens }) => blockTokens)) * available;
    if (growing.length === 0 && fits(bound)) {
        return Infinity;
    }
    let [most, tooMany] = [0, bound + 1];
    while (tooMany - most > 1) {
        const middle = Math.floor((most + tooMany) / 2);
        if (fits(middle)) {
            most = middle;
        } else {
            tooMany = middle;
        }
    }
    return most;
}

function grows({ kind }: CacheGroup): boolean {
    return kind === AttentionKind.Full || kind === AttentionKind.Latent;
}

function isBounded({ kind }: CacheGroup): boolean {
    return kind === AttentionKind.Sliding || kind === AttentionKind.Chunked;
}

function group({ kind, blockTokens, windowTokens }: Spec): CacheGroup {
    return { kind, blockTokens, windowTokens };
}

function sameTokens(a: CacheGroup, b: CacheGroup): boolean {
    return (grows(a) && grows(b)) || (a.kind === b.kind && a.windowTokens === b.windowTokens);
}

/** Bytes of one token, or of a state, in one layer of one GPU; layers of equal kind and size together. */
function merged(layers: readonly AttentionLayersArgs[], terms: CacheTerms): Spec[] {
    const specs = new Map<string, Spec>();
    for (const layer of layers) {
        const spec = layerSpec(layer, terms);
        const key = JSON.stringify([spec.kind, spec.pageBytes, spec.windowTokens]);
        specs.set(key, { ...spec, layers: spec.layers + (specs.get(key)?.layers ?? 0) });
    }
    return [...specs.values()];
}

function layerSpec(layer: AttentionLayersArgs, terms: CacheTerms): Spec {
    const { kind, layers, kvHeads = 1, headDim = 0, valueHeadDim = headDim, windowTokens, stateBytes = 0 } = layer;
    const valueBytes = layer.valueBytes ?? terms.valueBytes;
    const heads = Math.max(1, Math.floor(kvHeads / terms.tensorParallelSize));
    const spec = { layers, blockTokens: 1 };
    switch (kind) {
        case AttentionKind.State:
            return { ...spec, kind, pageBytes: Math.ceil(stateBytes / terms.tensorParallelSize) };
        case AttentionKind.Latent:
            // Each GPU of a tensor-parallel group has the whole vector.
            return {
                ...spec,
                kind,
                pageBytes: layer.valueBytes === undefined && terms.latentTokenBytes !== undefined ? terms.latentTokenBytes : headDim * valueBytes,
            };
        case AttentionKind.Sliding:
        case AttentionKind.Chunked:
            return { ...spec, kind, windowTokens, pageBytes: 2 * heads * headDim * valueBytes };
        case AttentionKind.Full:
            return { ...spec, kind, pageBytes: heads * (headDim + valueHeadDim) * valueBytes };
    }
}

/** From bytes of a token to bytes of a block. Beside a state the block of attention grows until a state fits into it. */
function blocks(specs: Spec[], terms: CacheTerms): Spec[] {
    const states = specs.filter(({ kind }) => kind === AttentionKind.State);
    const attention = specs.filter(({ kind }) => kind !== AttentionKind.State);
    const sparse = attention.filter(({ kind }) => kind === AttentionKind.Latent).length > 1;
    const wanted = terms.blockTokens ?? (sparse ? sparseBlockTokens : defaultBlockTokens);
    const widest = attention.reduce<Spec | undefined>((found, spec) => (found === undefined || spec.pageBytes > found.pageBytes ? spec : found), undefined);
    if (states.length === 0 || widest === undefined) {
        return specs.map((spec) => ({ ...spec, blockTokens: wanted, pageBytes: spec.kind === AttentionKind.State ? spec.pageBytes : spec.pageBytes * wanted }));
    }
    const alignment = widest.kind === AttentionKind.Latent ? alignmentTokens.latent : alignmentTokens.attention;
    const stateBytes = Math.max(...states.map(({ pageBytes }) => pageBytes));
    const blockTokens = Math.max(wanted, alignment * Math.ceil(stateBytes / (alignment * widest.pageBytes)));
    const pageBytes = blockTokens * widest.pageBytes;
    return [
        ...attention.map((spec) => ({ ...spec, blockTokens, pageBytes: spec.pageBytes * blockTokens })),
        ...states.map((spec) => ({ ...spec, blockTokens, pageBytes })),
    ];
}

function sum(numbers: number[]): number {
    return numbers.reduce((total, number) => total + number, 0);
}
