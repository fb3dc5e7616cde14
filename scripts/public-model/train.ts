/**
 * Trains the small public model from the public corpus and writes a Hugging Face directory: config,
 * tokenizer, bf16 weights, and the corpus's held-out documents for replay. Resumes after an interruption.
 * Usage: tsx scripts/public-model/train.ts CORPUS_DIR TOKENIZER.json OUT_DIR [STEPS]
 */
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fromFloat32, HUGGING_FACE_METADATA, writeSafetensors } from '../../src/checkpoint/safetensors.ts'
import { prepareCorpus } from '../../src/data/prepare-corpus.ts'
import { Tokenizer } from '../../src/data/tokenizer.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import { configToHuggingFace } from '../../src/model/config.ts'
import { publicShapes } from '../../src/model/params.ts'
import { checkpointFile } from '../../src/owner/checkpoint-file.ts'
import { onnxEngine } from '../../src/tensor/onnx-engine.ts'
import { compileDenseStep, initialPublicModel } from '../../src/training/dense.ts'
import { ADAMW_DEFAULTS, AdamW } from '../../src/training/optimizer.ts'
import { train } from '../../src/training/train.ts'
import { SMALL_CONFIG } from './small-config.ts'

const B = 16
const T = 256
const DEFAULT_STEPS = 1500
/**
 * Experts go on from where the public model stopped, as in FlexOlmo's training scripts, so it stops at a learning rate
 * that they can continue from: a model annealed to the end loses public text in every later step.
 */
const FINAL_SHARE = 0.5
const SEED = 12345

/** Every window once, in a fixed shuffled order. */
function shuffled(count: number, random: () => number): Int32Array {
  const order = Int32Array.from({ length: count }, (_, i) => i)
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    const kept = order[i] as number
    order[i] = order[j] as number
    order[j] = kept
  }
  return order
}

const [corpusDir, tokenizerPath, outDir, steps] = process.argv.slice(2)
if (corpusDir === undefined || tokenizerPath === undefined || outDir === undefined) {
  console.error('usage: tsx scripts/public-model/train.ts CORPUS_DIR TOKENIZER.json OUT_DIR [STEPS]')
  process.exit(2)
}
await mkdir(outDir, { recursive: true })
const tokenizer = Tokenizer.load(new Uint8Array(await readFile(tokenizerPath)))
const corpusPath = join(corpusDir, 'train.jsonl')
const corpus = await prepareCorpus({
  paths: [corpusPath],
  tokenizer,
  outDir: join(corpusDir, 'tokens'),
  heldOutShare: 0,
})
const order = shuffled(Math.floor((corpus.train.tokens - 1) / T), mulberry32(SEED + 1))
const params = initialPublicModel(SMALL_CONFIG, mulberry32(SEED))
const reports = train({
  compiled: await compileDenseStep(onnxEngine(), SMALL_CONFIG, B, T),
  trainables: params,
  optimizer: new AdamW(ADAMW_DEFAULTS, params),
  schedule: {
    peak: 3e-3,
    warmupSteps: 100,
    totalSteps: Number(steps ?? DEFAULT_STEPS),
    finalShare: FINAL_SHARE,
  },
  batches: (step) =>
    Promise.all(
      Array.from({ length: B }, (_, b) =>
        corpus.train.read((order[(step * B + b) % order.length] as number) * T, T + 1),
      ),
    ),
  checkpoints: checkpointFile(join(corpusDir, 'checkpoint.safetensors')),
  checkpointEvery: 100,
  clock: () => performance.now(),
})
for await (const { step, totalSteps, loss, tokensPerSecond, secondsLeft } of reports) {
  if (step % 20 === 0) {
    console.log(
      `${step}/${totalSteps} loss ${loss.toFixed(3)} ${tokensPerSecond.toFixed(0)} tokens/s, ${(secondsLeft / 60).toFixed(1)} min left`,
    )
  }
}
await corpus.close()
const entries = [...publicShapes(SMALL_CONFIG)].map(([name, shape]) => ({
  name,
  dtype: 'BF16' as const,
  shape: [...shape],
  data: fromFloat32(params.get(name) as Float32Array, 'BF16'),
}))
await writeFile(
  join(outDir, 'model.safetensors'),
  Buffer.concat(writeSafetensors(entries, HUGGING_FACE_METADATA)),
)
await writeFile(
  join(outDir, 'config.json'),
  `${JSON.stringify(configToHuggingFace(SMALL_CONFIG), null, 2)}\n`,
)
await copyFile(tokenizerPath, join(outDir, 'tokenizer.json'))
// Replay text must be new to the public model: what it has seen once would score too well.
await copyFile(join(corpusDir, 'held-out.jsonl'), join(outDir, 'replay.jsonl'))
