import { ClassicLevel } from 'classic-level'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { utf8 } from '../../src/lib/bytes.ts'
import { DurableLevel, type Operation } from '../../src/store/durable-level.ts'
import { cleanUp, folder } from '../support/folders.ts'

const open: DurableLevel[] = []
afterEach(async () => {
  vi.restoreAllMocks()
  for (const level of open.splice(0)) await level.close()
  await cleanUp()
})

async function empty(): Promise<DurableLevel> {
  const level = new DurableLevel(await folder())
  await level.open()
  open.push(level)
  return level
}

const put = (key: string, value = key) => [{ type: 'put' as const, key, value: utf8(value) }]
const range = { gte: 'a', lt: 'z' }

function failOnce(): void {
  vi.spyOn(ClassicLevel.prototype, 'batch').mockRejectedValueOnce(new Error('No space left on device'))
}

/** A write of which only the flush fails: the database holds it once it has read its log again. */
function failFlushOnce(operations: Operation[]): void {
  const { open } = ClassicLevel.prototype
  failOnce()
  vi.spyOn(ClassicLevel.prototype, 'open').mockImplementationOnce(async function (
    this: ClassicLevel<string, Uint8Array>,
  ) {
    await open.call(this, {})
    await this.batch(operations)
  })
}

describe('a database whose write has failed', () => {
  it('is opened anew before the next write, because what follows half a record is lost', async () => {
    const level = await empty()
    await level.batch(put('first'))
    failOnce()
    await expect(level.batch(put('second'))).rejects.toThrow('No space left')
    const opened = vi.spyOn(ClassicLevel.prototype, 'open')
    await level.batch(put('third'))
    await level.batch(put('fourth'))
    expect(opened).toHaveBeenCalledTimes(1)
    expect((await level.entries(range)).map(([key]) => key)).toEqual(['first', 'fourth', 'third'])
  })

  it('is read again once it can be opened, if the disk also failed while it was opened anew', async () => {
    const level = await empty()
    await level.batch(put('first'))
    failOnce()
    await expect(level.batch(put('second'))).rejects.toThrow('No space left')
    vi.spyOn(ClassicLevel.prototype, 'open').mockRejectedValueOnce(new Error('input/output error'))
    await expect(level.batch(put('third'))).rejects.toThrow('input/output error')
    expect(await Promise.all([level.get('first'), level.entries(range)])).toEqual([
      Buffer.from('first'),
      [['first', Buffer.from('first')]],
    ])
    await level.batch(put('fourth'))
    expect((await level.entries(range)).map(([key]) => key)).toEqual(['first', 'fourth'])
  })

  it('is read as before, also while it is opened anew', async () => {
    const level = await empty()
    await level.batch(put('first'))
    failOnce()
    await expect(level.batch(put('second'))).rejects.toThrow()
    expect(await level.get('first')).toEqual(Buffer.from('first'))
    const before = [level.get('first'), level.entries(range)]
    const writing = level.batch(put('third'))
    const during = [level.get('first'), level.entries(range)]
    await Promise.all([...before, writing, ...during])
    expect(await level.get('third')).toEqual(Buffer.from('third'))
  })
  it('does not keep the write if the disk stored it and reported an error', async () => {
    const level = await empty()
    await level.batch([...put('changed', 'old'), ...put('removed')])
    const failing: Operation[] = [...put('changed', 'new'), { type: 'del', key: 'removed' }, ...put('added')]
    failFlushOnce(failing)
    await expect(level.batch(failing)).rejects.toThrow('No space left')
    await level.batch(put('later'))
    expect(await level.entries(range)).toEqual([
      ['changed', Buffer.from('old')],
      ['later', Buffer.from('later')],
      ['removed', Buffer.from('removed')],
    ])
  })

  it('does not keep it for the next process either', async () => {
    const path = await folder()
    const level = new DurableLevel(path)
    await level.open()
    failFlushOnce(put('refused'))
    await expect(level.batch(put('refused'))).rejects.toThrow('No space left')
    await level.close()
    const next = new DurableLevel(path)
    await next.open()
    open.push(next)
    expect(await next.entries(range)).toEqual([])
  })
})
