/**
 * The layout of src/ as data: every folder and root file, what it holds and what it may import. README's tree, the
 * import rules of the linter and `npm run check` are made from this table, so none of them can differ from it.
 * Order is from the ground up: a row may only name rows above it.
 */

/** Groups of packages that only some rows may import. */
export const PACKAGES = {
  libp2p: ['libp2p', '@libp2p/*', '@chainsafe/*', '@multiformats/*', 'it-*', 'uint8arraylist'],
  keys: ['@libp2p/crypto', '@libp2p/crypto/*', '@libp2p/peer-id'],
  tensors: ['@tensorflow/*', 'onnxruntime-node'],
  http: ['hono', 'hono/**', '@hono/*', 'node:http'],
} as const satisfies Record<string, readonly string[]>
export type PackageGroup = keyof typeof PACKAGES

export interface Layer {
  /** A folder of src/, or a file at its root. */
  readonly name: string
  /** Rows that it may import besides itself: a whole folder, or one file of it as `folder/file`. */
  readonly imports: readonly string[]
  /** Groups of packages that it may import; every other package is open to all. */
  readonly packages?: readonly PackageGroup[]
  /** Whether it may use the global `WebAssembly`. */
  readonly webAssembly?: true
  /** One line for README's tree. */
  readonly holds: string
}

export const LAYERS: readonly Layer[] = [
  {
    name: 'lib',
    imports: [],
    holds: 'bytes, canonical JSON, CBOR, errors, limits, files, names of tensors',
  },
  {
    name: 'kernels',
    imports: [],
    webAssembly: true,
    holds: 'WebAssembly vector kernels, quantized matrices',
  },
  { name: 'telemetry', imports: ['lib'], holds: 'log lines for operators' },
  {
    name: 'identity',
    imports: ['lib'],
    packages: ['keys'],
    holds: 'Ed25519 keys, strict verification, DSSE envelopes, key file',
  },
  { name: 'store', imports: ['lib'], holds: 'files by digest, LevelDB catalogue, layout of the home folder' },
  { name: 'data', imports: ['lib'], holds: 'readers, encodings, tokenizer, corpus, held-out text' },
  {
    name: 'grammar',
    imports: ['lib'],
    holds: 'JSON schemas and calls of tools as automata over tokens',
  },
  {
    name: 'tensor',
    imports: ['lib', 'kernels'],
    packages: ['tensors'],
    holds: 'engines: traced ONNX, TensorFlow, plain; fused operations, devices',
  },
  {
    name: 'model',
    imports: ['lib', 'tensor'],
    packages: ['tensors'],
    holds: 'the forward pass: OLMo-2 blocks, router, gates, low-rank experts; evaluation',
  },
  {
    name: 'inference',
    imports: ['lib', 'kernels', 'grammar', 'tensor', 'model'],
    packages: ['tensors'],
    holds: 'generating text: batches, key-value cache, decoding, sampling',
  },
  {
    name: 'checkpoint',
    imports: ['lib', 'data', 'model/config', 'model/params', 'model/weights'],
    holds: 'safetensors and Hugging Face folders, the public model',
  },
  {
    name: 'consortium',
    imports: ['lib', 'identity', 'store'],
    holds: 'charter, rosters, invitations, membership',
  },
  {
    name: 'statements',
    imports: ['lib', 'identity', 'store', 'consortium'],
    holds: 'signed statements, heads, withdrawals, the log of every publisher',
  },
  {
    name: 'transparency',
    imports: ['lib', 'identity', 'store', 'consortium', 'statements'],
    holds: 'Merkle trees of logs, checkpoints, cosignatures, witnesses, audit bundles',
  },
  {
    name: 'privacy',
    imports: ['lib', 'tensor', 'model', 'inference'],
    holds: 'privacy accountant, noise for router statistics, audits of trained experts',
  },
  {
    name: 'training',
    imports: ['lib', 'data', 'tensor', 'model', 'privacy'],
    packages: ['tensors'],
    holds: 'loss, optimizer, pair of public model and expert, training loop',
  },
  {
    name: 'packaging',
    imports: ['lib', 'identity', 'model/weights', 'checkpoint', 'consortium', 'statements'],
    holds: 'manifest, expert package, allowed tensors',
  },
  {
    name: 'owner',
    imports: ['lib', 'store', 'data', 'tensor', 'model', 'checkpoint', 'packaging', 'training', 'privacy'],
    holds: "an owner's trainings: train, reduce the rank, score, export, import",
  },
  {
    name: 'network',
    imports: ['lib', 'identity', 'telemetry'],
    packages: ['libp2p'],
    holds: 'libp2p: transport, members-only gate, mesh, frames, quotas',
  },
  {
    name: 'exchange',
    imports: ['lib', 'identity', 'store', 'consortium', 'statements', 'transparency', 'network', 'telemetry'],
    holds: 'the stream protocols, one file each: join, statements, addresses, blobs',
  },
  {
    name: 'acceptance',
    imports: [
      'lib',
      'identity',
      'store',
      'consortium',
      'statements',
      'tensor',
      'model',
      'checkpoint',
      'packaging',
      'privacy/accountant',
      'telemetry',
    ],
    holds: 'ordered checks, policy, measurement, verdicts, accepted experts',
  },
  {
    name: 'composition',
    imports: [
      'lib',
      'telemetry',
      'store',
      'grammar',
      'tensor',
      'model',
      'inference',
      'checkpoint',
      'packaging',
      'acceptance/accepted-experts',
    ],
    holds: 'mixture of accepted experts, selection, attribution, export',
  },
  {
    name: 'jobs',
    imports: [
      'lib',
      'store',
      'data',
      'tensor',
      'model',
      'checkpoint',
      'privacy',
      'packaging',
      'owner',
      'acceptance',
      'composition',
    ],
    holds: 'computations that take long, each a job that can run in a worker thread',
  },
  {
    name: 'serving',
    imports: ['lib', 'telemetry', 'store/api-keys', 'store/api-usage', 'data/chat', 'grammar', 'composition'],
    packages: ['http'],
    holds: 'OpenAI-compatible API, queue, upstream gateway, control socket',
  },
  {
    name: 'dashboard',
    imports: ['lib', 'serving'],
    packages: ['http'],
    holds: "the operator's pages: files, sessions, events, commands that run on",
  },
  {
    name: 'pipeline',
    imports: [
      'lib',
      'telemetry',
      'identity',
      'store',
      'model',
      'checkpoint',
      'consortium',
      'statements',
      'transparency',
      'privacy',
      'packaging',
      'owner',
      'exchange',
      'acceptance',
      'composition',
      'jobs',
    ],
    holds: 'what the steps of the data path share: parts, own log, forks, judging',
  },
  {
    name: 'pipeline.ts',
    imports: ['lib', 'identity', 'acceptance', 'owner', 'packaging', 'pipeline'],
    holds: 'publish, withdraw, ingest and judge: the data path, in order; read this first',
  },
  {
    name: 'node',
    imports: [
      'lib',
      'telemetry',
      'identity',
      'store',
      'data',
      'tensor',
      'model',
      'inference',
      'checkpoint',
      'consortium',
      'statements',
      'transparency',
      'packaging',
      'owner',
      'network',
      'exchange',
      'acceptance',
      'composition',
      'jobs',
      'pipeline',
      'pipeline.ts',
    ],
    holds: 'builds, starts and stops the parts of a node; founding and joining',
  },
  {
    name: 'commands',
    imports: [
      'lib',
      'telemetry',
      'store',
      'data',
      'grammar',
      'tensor',
      'model',
      'inference',
      'checkpoint',
      'consortium',
      'privacy',
      'transparency',
      'packaging',
      'owner',
      'acceptance',
      'composition',
      'jobs',
      'pipeline',
      'pipeline.ts',
      'node',
    ],
    holds: 'the commands of a node: options, arguments, what they do, how results read',
  },
  {
    name: 'cli',
    imports: [
      'lib',
      'telemetry',
      'identity',
      'store',
      'tensor',
      'model',
      'inference',
      'checkpoint',
      'consortium',
      'transparency',
      'packaging',
      'owner',
      'composition',
      'serving',
      'dashboard',
      'node',
      'commands',
    ],
    holds: 'the command line: parsing, terminal output, start, demo, doctor',
  },
  {
    name: 'main.ts',
    imports: ['lib', 'cli'],
    holds: 'process entry: arguments, signals, exit codes',
  },
]
