import { describe, expect, it } from 'vitest'
import { tensorFormat } from '../../src/kernels/tensor-format.ts'

describe('tensorFormat', () => {
  it('keeps every matrix in the chosen format of floats', () => {
    for (const chosen of ['fp32', 'bf16'] as const) {
      for (const role of ['embedding', 'attention', 'ffn', 'factor', 'head'] as const)
        expect(tensorFormat(chosen, role)).toBe(chosen)
    }
  })

  it('keeps head and embedding in 8 bits, and factors in bf16, when others have 4', () => {
    expect(tensorFormat('int4', 'ffn')).toBe('int4')
    expect(tensorFormat('int4', 'attention')).toBe('int4')
    expect(tensorFormat('int4', 'head')).toBe('int8')
    expect(tensorFormat('int4', 'embedding')).toBe('int8')
    expect(tensorFormat('int4', 'factor')).toBe('bf16')
    expect(tensorFormat('int8', 'factor')).toBe('bf16')
  })
})
