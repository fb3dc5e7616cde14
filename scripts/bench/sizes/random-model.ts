/**
 * Writes random models as files, tensor by tensor: a public model as a Hugging Face folder, an expert as the file of a
 * finished training, and a pair as training elsewhere returns it. Scales keep the residual stream and the logits sane:
 * embeddings of deviation 1, norms of 1, matrices that keep the deviation of their input, logits of deviation 2.
 * Knows no nodes and no engines.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeHuggingFaceDirectory } from '../../../src/checkpoint/huggingface-directory.ts'
import { type NamedTensor, writeTensorFile } from '../../../src/checkpoint/tensor-file.ts'
import { mulberry32 } from '../../../src/lib/random.ts'
import {
  biasName,
  expertName,
  FACTORS,
  FFN_PROJECTIONS,
  factorName,
  layerName,
  mixtureName,
  PAIR_EXPERT,
  routerName,
} from '../../../src/lib/tensor-names.ts'
import { configToHuggingFace, type ModelConfig, mixtureToHuggingFace } from '../../../src/model/config.ts'
import { factorShape, projectionShape, publicShapes } from '../../../src/model/params.ts'
import { ROOT } from '../node-process.ts'
import { type Distribution, normalTensor, onesTensor } from './random-tensors.ts'

const SMALL = join(ROOT, 'models', 'small')
const SHARD_BYTES = 4.5e9
/** Standard deviation of logits: the best token leads by far more than rounding. */
const LOGIT_STD = 2
/** Norm of an expert's difference from the public FFN, relative to the public weights. */
const DIFFERENCE = 0.05
/** Bias of an expert's router logits, with which random experts take less public text than nodes allow. */
const BIAS = -4
/** Norm of a router row: routing logits have about the deviation of the residual stream. */
const ROW_NORM = 1

/** Writes the public model with the tokenizer and the replay text of models/small. */
export async function writePublicModel(dir: string, config: ModelConfig): Promise<void> {
  const tensors = [...publicShapes(config)].map(([name, shape]) => publicTensor(name, name, shape))
  const files = new Map([
    ['config.json', `${JSON.stringify(configToHuggingFace(config), null, 2)}\n`],
    ...(await smallFiles('tokenizer.json', 'replay.jsonl')),
  ])
  await writeHuggingFaceDirectory(dir, { tensors, files }, { shardBytes: SHARD_BYTES })
}

/**
 * Writes expert number `index` (from 1) as `expert.safetensors` of a training: whole FFNs in BF16, or two factors of
 * `rank`.
 */
export async function writeExpertFile(
  path: string,
  config: ModelConfig,
  index: number,
  rank?: number,
): Promise<void> {
  const rows = routerRows(config, index).map((row, layer) =>
    valuesTensor(routerName(layer), [1, config.hiddenSize], row),
  )
  const biases = rows.map((_, layer) => valuesTensor(biasName(layer), [1], Float32Array.of(BIAS)))
  await writeTensorFile(path, [...expertTensors(config, index, rank), ...rows, ...biases])
}

/** Writes a two-expert FlexOlmo checkpoint whose expert 1 is expert number `index`. */
export async function writePair(dir: string, config: ModelConfig, index: number): Promise<void> {
  const frozen = [...publicShapes(config)].map(([name, shape]) =>
    publicTensor(mixtureName(name), name, shape),
  )
  const rows = routerRows(config, index).map((row, layer) => {
    const both = new Float32Array(2 * row.length)
    both.set(row, row.length)
    return valuesTensor(routerName(layer), [2, row.length], both)
  })
  const json = mixtureToHuggingFace(config, { experts: 2, topK: 2, endsOfText: [0], dtype: 'bfloat16' })
  const files = new Map([['config.json', JSON.stringify(json)], ...(await smallFiles('tokenizer.json'))])
  const tensors = [...frozen, ...expertTensors(config, index), ...rows]
  await writeHuggingFaceDirectory(dir, { tensors, files }, { shardBytes: SHARD_BYTES })
}

/** A tensor of the public model under the name `as`. */
function publicTensor(as: string, name: string, shape: readonly number[]): NamedTensor {
  if (name.includes('norm')) return onesTensor(as, shape)
  return normalTensor(as, shape, distributionOf(name, shape))
}

function distributionOf(name: string, shape: readonly number[]): Distribution {
  if (name === 'model.embed_tokens.weight') return { seed: name, std: 1 }
  const scale = name === 'lm_head.weight' ? LOGIT_STD : 1
  return { seed: name, std: scale / Math.sqrt(shape.at(-1) as number) }
}

function expertTensors(config: ModelConfig, index: number, rank?: number): NamedTensor[] {
  const tensors: NamedTensor[] = []
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const name = expertName(layer, PAIR_EXPERT, projection)
      const seed = `${index} ${name}`
      const shape = projectionShape(config, projection)
      const base = distributionOf(layerName(layer, `mlp.${projection}.weight`), shape)
      if (rank === undefined) {
        tensors.push(normalTensor(name, shape, { ...base, noise: { seed, std: DIFFERENCE * base.std } }))
        continue
      }
      for (const factor of FACTORS) {
        // Values of B A have the deviation sqrt(rank) std(A) std(B), and so DIFFERENCE times that of the weight.
        const std = factor === 'A' ? base.std : DIFFERENCE / Math.sqrt(rank)
        const factorNamed = factorName(layer, PAIR_EXPERT, projection, factor)
        tensors.push(
          normalTensor(factorNamed, factorShape(config, projection, factor, rank), {
            seed: `${index} ${factorNamed}`,
            std,
          }),
        )
      }
    }
  }
  return tensors
}

function routerRows({ hiddenSize, numHiddenLayers }: ModelConfig, index: number): Float32Array[] {
  const random = mulberry32(index)
  const bound = ROW_NORM * Math.sqrt(3 / hiddenSize)
  return Array.from({ length: numHiddenLayers }, () =>
    Float32Array.from({ length: hiddenSize }, () => (2 * random() - 1) * bound),
  )
}

function valuesTensor(name: string, shape: readonly number[], data: Float32Array): NamedTensor {
  return { name, weight: { shape, data } }
}

async function smallFiles(...names: string[]): Promise<[string, string][]> {
  return Promise.all(
    names.map(async (name): Promise<[string, string]> => [name, await readFile(join(SMALL, name), 'utf8')]),
  )
}
