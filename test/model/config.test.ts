import { describe, expect, it } from 'vitest'
import {
  configFromHuggingFace,
  configToHuggingFace,
  configToShape,
  type ModelConfig,
} from '../../src/model/config.ts'

const CONFIG: ModelConfig = {
  vocabSize: 101,
  hiddenSize: 64,
  intermediateSize: 48,
  numHiddenLayers: 3,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  maxPositionEmbeddings: 128,
  ropeTheta: 10_000,
  rmsNormEps: 1e-5,
}
const json = configToHuggingFace(CONFIG)
const read = (changes: Record<string, unknown>): ModelConfig => configFromHuggingFace({ ...json, ...changes })

describe('config.json', () => {
  it('reads back what it writes, grouped-query attention included', () => {
    expect(read({})).toEqual(CONFIG)
    expect(read({ num_key_value_heads: null }).numKeyValueHeads).toBe(4)
  })

  it('leaves out attention_dropout, because transformers refuses the integer 0', () => {
    expect(json).not.toHaveProperty('attention_dropout')
  })

  it('reads rotary parameters in the old and the new form', () => {
    expect(read({ rope_theta: 250_000, rope_scaling: null }).ropeTheta).toBe(250_000)
    const parameters = { rope_theta: 250_000, rope_type: 'default' }
    expect(read({ rope_theta: undefined, rope_parameters: parameters }).ropeTheta).toBe(250_000)
  })

  it('uses the defaults of transformers for each model type', () => {
    const silent = { rope_theta: undefined, rms_norm_eps: undefined }
    expect(read(silent)).toMatchObject({ ropeTheta: 10_000, rmsNormEps: 1e-5 })
    expect(read({ ...silent, model_type: 'flex_olmo' })).toMatchObject({
      ropeTheta: 500_000,
      rmsNormEps: 1e-6,
    })
  })

  it.each([
    [{ rope_scaling: { type: 'linear', factor: 2 } }, /"linear"/],
    [{ rope_scaling: { rope_type: 'yarn', factor: 2 } }, /"yarn"/],
    [{ rope_parameters: { rope_type: 'llama3', rope_theta: 10_000 } }, /"llama3"/],
    [{ tie_word_embeddings: true }, /tie_word_embeddings false/],
    [{ hidden_act: 'gelu' }, /hidden_act silu/],
    [{ attention_bias: true }, /attention_bias false/],
    [{ num_key_value_heads: 3 }, /multiple of num_key_value_heads 3/],
    [{ num_key_value_heads: 8 }, /num_key_value_heads: expected an integer from 1 to 4/],
    [{ hidden_size: 60 }, /hidden_size 60/],
    [{ rope_theta: 0 }, /rope_theta/],
    [{ model_type: 'llama' }, /llama/],
  ])('refuses %o', (changes, message) => {
    expect(() => read(changes)).toThrow(message)
  })

  it('refuses numbers that a charter cannot carry as integers', () => {
    expect(configToShape(CONFIG)).toMatchObject({ rope_theta: 10_000, rms_norm_eps_nano: 10_000 })
    expect(() => configToShape({ ...CONFIG, ropeTheta: 10_000.5 })).toThrow(/rope_theta 10000.5/)
    expect(() => configToShape({ ...CONFIG, rmsNormEps: 1.5e-9 })).toThrow(/rms_norm_eps/)
  })
})
