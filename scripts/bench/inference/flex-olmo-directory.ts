/** Writes a mixture as a Hugging Face directory that transformers loads as FlexOlmoForCausalLM. */

import { writeHuggingFaceDirectory } from '../../../src/checkpoint/huggingface-directory.ts'
import type { FloatDtype } from '../../../src/lib/float-formats.ts'
import { type ModelConfig, mixtureToHuggingFace } from '../../../src/model/config.ts'
import { mixtureShapes, requireParam } from '../../../src/model/params.ts'
import type { Params } from '../../../src/model/weights.ts'

const NAMES = { F32: 'float32', BF16: 'bfloat16', F16: 'float16' } as const

/** Leaves out router biases, which the format cannot hold. */
export async function writeFlexOlmoDirectory(
  dir: string,
  config: ModelConfig,
  params: Params,
  experts: number,
  topK: number,
  { dtype = 'F32', shardBytes }: { dtype?: FloatDtype; shardBytes?: number } = {},
): Promise<void> {
  const tensors = [...mixtureShapes(config, experts)].map(([name, shape]) => ({
    name,
    weight: { shape, data: requireParam(params, name).data },
    dtype,
  }))
  const json = { ...mixtureToHuggingFace(config, { experts, topK, endsOfText: [0], dtype: NAMES[dtype] }) }
  // Without an end token, greedy decoding of a random model never stops early.
  json['eos_token_id'] = null
  json['pad_token_id'] = null
  const files = new Map([['config.json', JSON.stringify(json)]])
  await writeHuggingFaceDirectory(dir, { tensors, files }, { shardBytes })
}
