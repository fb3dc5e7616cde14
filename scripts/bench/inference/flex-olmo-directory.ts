/** A mixture as a Hugging Face directory that transformers loads as FlexOlmoForCausalLM. Knows no engine. */
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { configToHuggingFace, type ModelConfig } from '../../../src/model/config.ts'
import type { Params } from '../../../src/model/params.ts'
import { fromFloat32, writeSafetensors } from '../../../src/packaging/safetensors.ts'

export async function writeFlexOlmoDirectory(
  dir: string,
  config: ModelConfig,
  params: Params,
  experts: number,
  topK: number,
): Promise<void> {
  const json = {
    ...configToHuggingFace(config),
    architectures: ['FlexOlmoForCausalLM'],
    model_type: 'flex_olmo',
    num_experts: experts,
    num_experts_per_tok: topK,
    norm_topk_prob: false,
    output_router_logits: false,
    pad_token_id: null,
    eos_token_id: null,
    torch_dtype: 'float32',
  }
  await writeFile(join(dir, 'config.json'), JSON.stringify(json))
  const entries = [...params]
    // transformers has no router bias; the reference models' is zero.
    .filter(([name]) => !name.endsWith('.expert_bias'))
    .map(([name, { shape, data }]) => ({
      name,
      shape,
      dtype: 'F32' as const,
      data: fromFloat32(data, 'F32'),
    }))
  const file = await open(join(dir, 'model.safetensors'), 'w')
  try {
    for (const part of writeSafetensors(entries, new Map([['format', 'pt']]))) await file.writeFile(part)
  } finally {
    await file.close()
  }
}
