/** Test vectors of sections Tensors and Low-rank experts: which tensors a package may and must hold. */
import type { ExpertShape } from '../../../src/packaging/tensor-names.ts'
import { TINY_EXPERT } from '../../support/packages.ts'
import type { Case, Vector } from '../vector.ts'
import { fileEditor, packageVectors, packedFile, VOCABULARY, zeros } from './fixtures.ts'

export function tensorVectors(): Vector[] {
  const ffn = 'model.layers.0.mlp.experts.1.down_proj.weight'
  const router = 'model.layers.1.mlp.gate.weight'
  const file = fileEditor(TINY_EXPERT)
  const foreign = (name: string): Uint8Array => file(zeros(name, 'F32', 0))
  const cases: [...Case, Uint8Array][] = [
    ['bf16', 'accept', 'two layers with bias, as the publisher packs them', file()],
    ['missing-tensor', 'tensor-name', 'a package without one of its tensors', file(undefined, ffn)],
    [
      'missing-one-bias',
      'tensor-name',
      'a bias missing in one layer',
      file(undefined, 'model.layers.1.mlp.expert_bias'),
    ],
    [
      'public-expert',
      'tensor-name',
      "a tensor of expert 0, which is the public model's",
      foreign('model.layers.0.mlp.experts.0.up_proj.weight'),
    ],
    [
      'attention',
      'tensor-name',
      'a tensor of the shared weights',
      foreign('model.layers.0.self_attn.q_proj.weight'),
    ],
    ['embedding', 'tensor-name', 'a tensor of the shared weights', foreign('model.embed_tokens.weight')],
    [
      'extra-layer',
      'tensor-name',
      'a layer that the manifest does not count',
      foreign('model.layers.2.mlp.gate.weight'),
    ],
    ['transposed', 'tensor-shape', 'same size, other shape', file(zeros(ffn, 'BF16', 6, 4))],
    ['two-router-rows', 'tensor-shape', 'two router rows in a layer', file(zeros(router, 'F32', 2, 4))],
    ['ffn-dtype', 'tensor-dtype', 'the manifest says BF16', file(zeros(ffn, 'F16', 4, 6))],
    ['router-dtype', 'tensor-dtype', 'router rows are always F32', file(zeros(router, 'BF16', 1, 4))],
  ]
  return packageVectors(
    'Tensors',
    cases.map((entry) => [...entry, {}] as const),
  )
}

export function lowRankVectors(): Vector[] {
  const shape = { ...TINY_EXPERT, rank: 2 }
  const file = fileEditor(shape)
  const factor = (name: 'A' | 'B'): string => `model.layers.0.mlp.experts.1.down_proj.lora_${name}.weight`
  const whole = packedFile(TINY_EXPERT)
  const both = packedFile({ ...shape, statisticsTokens: VOCABULARY })
  const cases: [...Case, Uint8Array, Partial<ExpertShape>][] = [
    ['low-rank', 'accept', 'factors of rank 2, as the publisher packs them', file(), { rank: 2 }],
    [
      'low-rank-one-factor',
      'tensor-name',
      'factor A without factor B',
      file(undefined, factor('B')),
      { rank: 2 },
    ],
    [
      'low-rank-beside-whole',
      'tensor-name',
      'a full weight beside its factors',
      file(zeros('model.layers.0.mlp.experts.1.down_proj.weight', 'BF16', 4, 6)),
      { rank: 2 },
    ],
    [
      'low-rank-of-public-expert',
      'tensor-name',
      "a tensor of expert 0, which is the public model's",
      file(zeros('model.layers.0.mlp.experts.0.down_proj.lora_A.weight', 'BF16', 2, 6)),
      { rank: 2 },
    ],
    [
      'low-rank-of-attention',
      'tensor-name',
      'factors for a tensor of the shared weights',
      file(zeros('model.layers.0.self_attn.q_proj.lora_A.weight', 'BF16', 2, 4)),
      { rank: 2 },
    ],
    ['low-rank-unannounced', 'tensor-name', 'the manifest says whole weights', file(), {}],
    ['low-rank-missing', 'tensor-name', 'the manifest says rank 2', whole, { rank: 2 }],
    ['low-rank-other-rank', 'tensor-shape', 'the manifest says rank 3', file(), { rank: 3 }],
    [
      'low-rank-transposed',
      'tensor-shape',
      'same size, other shape',
      file(zeros(factor('A'), 'BF16', 6, 2)),
      { rank: 2 },
    ],
    [
      'low-rank-uneven',
      'tensor-shape',
      'factors of different ranks',
      file(zeros(factor('B'), 'BF16', 4, 3)),
      { rank: 2 },
    ],
    [
      'low-rank-dtype',
      'tensor-dtype',
      'factors in another dtype than the manifest says',
      file(zeros(factor('A'), 'F32', 2, 6)),
      { rank: 2 },
    ],
    [
      'low-rank-statistics',
      'accept',
      'factors and router statistics in one package',
      both,
      { rank: 2, statisticsTokens: VOCABULARY },
    ],
    [
      'low-rank-statistics-other-size',
      'tensor-shape',
      'the manifest says nine tokens',
      both,
      { rank: 2, statisticsTokens: VOCABULARY + 1 },
    ],
    [
      'low-rank-statistics-unasked',
      'tensor-name',
      'router statistics that the manifest does not announce',
      both,
      { rank: 2 },
    ],
    [
      'low-rank-statistics-missing',
      'tensor-name',
      'the manifest says that there are some',
      file(),
      { rank: 2, statisticsTokens: VOCABULARY },
    ],
  ]
  return packageVectors('Low-rank experts', cases)
}
