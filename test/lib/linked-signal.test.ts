import { getEventListeners } from 'node:events'
import { expect, it, vi } from 'vitest'
import { linkSignals } from '../../src/lib/linked-signal.ts'

it('aborts with the reason of the first source that aborts', () => {
  const [first, second] = [new AbortController(), new AbortController()]
  const { signal } = linkSignals(first.signal, second.signal)
  expect(signal.aborted).toBe(false)
  second.abort(new Error('second'))
  first.abort(new Error('first'))
  expect(signal).toMatchObject({ aborted: true, reason: { message: 'second' } })
})

it('is aborted from the beginning if a source is', () => {
  const { signal } = linkSignals(new AbortController().signal, AbortSignal.abort('gone'))
  expect(signal).toMatchObject({ aborted: true, reason: 'gone' })
})

it('leaves no listener at its sources after its release', () => {
  const source = new AbortController()
  const { signal, release } = linkSignals(source.signal)
  expect(getEventListeners(source.signal, 'abort')).toHaveLength(1)
  release()
  expect(getEventListeners(source.signal, 'abort')).toHaveLength(0)
  source.abort()
  expect(signal.aborted).toBe(false)
})

it('makes Node print no warning about many listeners at one source', async () => {
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
  const source = new AbortController()
  const linked = Array.from({ length: 20 }, () => linkSignals(source.signal))
  for (const { release } of linked) release()
  expect(warn).not.toHaveBeenCalled()
  warn.mockRestore()
})
