import { describe, expect, it } from 'vitest'
import { readOrder, readReport, receivedError, sentError, transferable } from '../../src/jobs/messages.ts'
import { FormatError, InputError, PolicyError, VerificationError } from '../../src/lib/errors.ts'

describe('a message between threads', () => {
  it.each([[undefined], ['run'], [{}], [{ kind: 'run' }], [{ kind: 'run', job: 7 }], [{ kind: 'stop' }]])(
    'is refused as an order: %j',
    (message) => {
      expect(() => readOrder(message)).toThrow(TypeError)
    },
  )

  it.each([[null], [7], [{}], [{ kind: 'error' }], [{ kind: 'error', error: { message: 7, stack: '' } }]])(
    'is refused as a report: %j',
    (message) => {
      expect(() => readReport(message)).toThrow(TypeError)
    },
  )
})

describe('an error that was sent', () => {
  it.each([
    new FormatError('truncated', 'too short'),
    new VerificationError('wrong-digest', 'changed', { digest: 'sha256:0' }),
    new PolicyError('not-finite', 'NaN'),
    new InputError('disk-full', 'no space'),
  ])('is received as what it was: $name', (error) => {
    const received = receivedError(structuredClone(sentError(error)))
    expect(received).toBeInstanceOf(error.constructor)
    expect(received).toMatchObject({ ...error, message: error.message, stack: error.stack })
  })

  it('is an Error with the stack of the thread if it is a fault of the program', () => {
    const error = new TypeError('undefined is not a function')
    expect(receivedError(structuredClone(sentError(error)))).toMatchObject({
      message: error.message,
      stack: error.stack,
    })
    expect(receivedError(sentError('text'))).toMatchObject({ message: 'text' })
  })
})

describe('the buffers that a result hands over', () => {
  it('are its large ones, each once, at any depth', () => {
    const file = new ArrayBuffer(100_000)
    const tensors = new Map([
      ['a', { data: new Float32Array(file, 0, 8) }],
      ['b', { data: new Float32Array(file, 32, 8) }],
    ])
    const value = {
      verdict: { id: 'x', passed: ['file'] },
      tensors,
      more: [new Uint8Array(20_000)],
      none: null,
    }
    const found = transferable(value)
    expect([...found].map(({ byteLength }) => byteLength)).toEqual([100_000, 20_000])
    const received = structuredClone(value, { transfer: [...found] })
    expect(received.tensors.get('b')?.data.buffer).toBe(received.tensors.get('a')?.data.buffer)
  })

  it('leave out small buffers, which Node shares between values, and shared memory', () => {
    expect(transferable([Buffer.from('small'), new Uint8Array(new SharedArrayBuffer(100_000))]).size).toBe(0)
  })
})
