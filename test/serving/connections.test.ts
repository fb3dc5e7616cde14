import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Connection, Connections } from '../../src/serving/connections.ts'

/** Connections, each with a name, and the names of those that were destroyed, in order. */
function setUp(connections: number, strangers: number) {
  const table = new Connections({ connections, strangers })
  const destroyed: string[] = []
  const open = (name: string, remoteAddress = '127.0.0.1'): Connection =>
    table.open({ remoteAddress, destroy: () => destroyed.push(name) })
  const known = (name: string, remoteAddress?: string): Connection => {
    const connection = open(name, remoteAddress)
    table.know(connection)
    return connection
  }
  return { table, destroyed, open, known }
}

describe('connections', () => {
  it('without a key give way to new ones, the oldest first', () => {
    const { destroyed, open } = setUp(10, 2)
    for (const name of ['a', 'b', 'c', 'd']) open(name)
    expect(destroyed).toEqual(['a', 'b'])
  })

  it('with a key are kept, however many come without one', () => {
    const { destroyed, open, known } = setUp(4, 2)
    known('honest 1')
    known('honest 2')
    for (const name of ['a', 'b', 'c', 'd']) open(name)
    expect(destroyed).toEqual(['a', 'b'])
  })

  it('of the address that holds the most give way first', () => {
    const { destroyed, open } = setUp(10, 4)
    open('honest', '127.0.0.1')
    for (const name of ['a', 'b', 'c', 'd', 'e']) open(name, '127.0.0.2')
    expect(destroyed).toEqual(['a', 'b'])
  })

  it('give way to a newcomer if they send their request slowly, although they have a key', () => {
    const { destroyed, open, known } = setUp(3, 3)
    for (const name of ['slow 1', 'slow 2', 'slow 3']) known(name)
    open('honest')
    expect(destroyed).toEqual(['slow 1'])
  })

  it('without a key do not give way to newcomers while others with a key have waited longer', () => {
    const { destroyed, open, known } = setUp(3, 3)
    for (const name of ['slow 1', 'slow 2']) known(name)
    open('honest')
    for (const name of ['slow 3', 'slow 4']) known(name)
    expect(destroyed).toEqual(['slow 1', 'slow 2'])
  })

  it('that were idle for longer give way first', () => {
    const { table, destroyed, open, known } = setUp(2, 2)
    const first = known('first')
    known('second')
    table.answer(first)()
    open('third')
    expect(destroyed).toEqual(['second'])
  })

  it('whose requests are being answered are kept, and a newcomer is closed instead', () => {
    const { table, destroyed, open, known } = setUp(2, 2)
    const ends = ['a', 'b'].map((name) => table.answer(known(name)))
    open('c')
    expect(destroyed).toEqual(['c'])
    for (const end of ends) {
      end()
      end() // A second call has no effect.
    }
    open('d')
    expect(destroyed).toEqual(['c', 'a'])
  })

  it('that are closed make room', () => {
    const { table, destroyed, open } = setUp(2, 2)
    table.close(open('a'))
    open('b')
    open('c')
    expect([destroyed, table.size]).toEqual([[], 2])
  })

  it('never exceed the limits, and an answer is never cut off', () => {
    const action = fc.record({
      kind: fc.constantFrom('open', 'know', 'answer', 'end', 'close'),
      at: fc.nat(30),
      address: fc.constantFrom('a', 'b', 'c'),
    })
    const property = fc.property(fc.array(action, { maxLength: 120 }), (actions) => {
      const { table, destroyed, open } = setUp(6, 4)
      const all: { name: string; connection: Connection; end?: () => void }[] = []
      const alive = () => all.filter(({ name }) => !destroyed.includes(name))
      for (const [i, { kind, at, address }] of actions.entries()) {
        const one = alive()[at]
        if (kind === 'open') all.push({ name: String(i), connection: open(String(i), address) })
        else if (one === undefined) continue
        else if (kind === 'know') table.know(one.connection)
        else if (kind === 'answer' && one.connection.isKnown) one.end ??= table.answer(one.connection)
        else if (kind === 'end') one.end?.()
        else if (kind === 'close') {
          table.close(one.connection)
          destroyed.push(one.name)
        }
        for (const { name, connection } of all)
          if (destroyed.includes(name) && kind === 'open') expect(connection.answering).toBe(0)
        expect(table.size).toBe(alive().length)
        expect(table.size).toBeLessThanOrEqual(6)
        expect(alive().filter(({ connection }) => !connection.isKnown).length).toBeLessThanOrEqual(4)
      }
    })
    fc.assert(property, { seed: 15, numRuns: 300 })
  })
})
