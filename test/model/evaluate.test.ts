import { expect, it } from 'vitest'
import { createEvaluator } from '../../src/model/evaluate.ts'
import { onnx } from '../support/engines.ts'
import { goldenConfig } from '../support/golden.ts'
import { E, GATED, params, prompt } from '../support/golden-generator.ts'

it('an evaluator without gates refuses a gate', async () => {
  const tokens = Int32Array.from(prompt(50, 1))
  const plain = await createEvaluator(onnx, goldenConfig, params, { E, topK: 2, endOfText: 0 })
  await expect(plain.evaluate([{ tokens, bytes: 50 }], GATED)).rejects.toThrow('without a gate')
  await plain.dispose()
})
