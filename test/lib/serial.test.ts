import '../../src/lib/node20.ts'
import { describe, expect, it } from 'vitest'
import { Serial } from '../../src/lib/serial.ts'

/** Actions that write down when they start and end, and end when the test says so. */
function recorded() {
  const steps: string[] = []
  const gates = new Map<string, PromiseWithResolvers<void>>()
  const action = (name: string) => async (): Promise<string> => {
    const gate = Promise.withResolvers<void>()
    gates.set(name, gate)
    steps.push(`${name} starts`)
    await gate.promise.finally(() => steps.push(`${name} ends`))
    return name
  }
  return {
    steps,
    action,
    end: (name: string) => gates.get(name)?.resolve(),
    fail: (name: string) => gates.get(name)?.reject(new Error(name)),
  }
}

/** Lets everything that is ready to run do so. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('Serial', () => {
  it('runs one action after the other, in the order of the calls', async () => {
    const { steps, action, end } = recorded()
    const serial = new Serial()
    const results = ['a', 'b'].map((name) => serial.run(action(name)))
    await turn()
    expect(steps).toEqual(['a starts'])
    end('a')
    await turn()
    end('b')
    expect(await Promise.all(results)).toEqual(['a', 'b'])
    expect(steps).toEqual(['a starts', 'a ends', 'b starts', 'b ends'])
  })

  it('goes on after an action that fails, and gives its error to its caller only', async () => {
    const { action, end, fail } = recorded()
    const serial = new Serial()
    const first = serial.run(action('a'))
    const second = serial.run(action('b'))
    await turn()
    fail('a')
    await expect(first).rejects.toThrow('a')
    await turn()
    end('b')
    expect(await second).toBe('b')
  })

  it('starts an action that fails before its first await without failing the next', async () => {
    const serial = new Serial()
    const failing = serial.run(() => {
      throw new Error('at once')
    })
    const next = serial.run(async () => 'next')
    await expect(failing).rejects.toThrow('at once')
    expect(await next).toBe('next')
  })

  it('is idle once every action so far has ended, whether it failed or not', async () => {
    const { action, fail } = recorded()
    const serial = new Serial()
    await serial.idle()
    let idle = false
    const failing = serial.run(action('a'))
    const waiting = serial.idle().then(() => {
      idle = true
    })
    await turn()
    expect(idle).toBe(false)
    fail('a')
    await expect(failing).rejects.toThrow('a')
    await waiting
    expect(idle).toBe(true)
  })
})
