import { expect, it } from 'vitest'
import { linkedSignal } from '../../src/lib/linked-signal.ts'

it('aborts with the reason of the first source that aborts', () => {
  const [first, second] = [new AbortController(), new AbortController()]
  const signal = linkedSignal(first.signal, second.signal)
  expect(signal.aborted).toBe(false)
  second.abort(new Error('second'))
  first.abort(new Error('first'))
  expect(signal).toMatchObject({ aborted: true, reason: { message: 'second' } })
})

it('is aborted from the beginning if a source is', () => {
  const signal = linkedSignal(new AbortController().signal, AbortSignal.abort('gone'))
  expect(signal).toMatchObject({ aborted: true, reason: 'gone' })
})
