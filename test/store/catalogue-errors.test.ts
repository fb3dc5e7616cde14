import { afterAll, describe, expect, it, vi } from 'vitest'
import { Catalogue } from '../../src/store/catalogue.ts'
import { cleanUp, folder } from '../support/folders.ts'

/** The message with which LevelDB fails to open. */
const level = vi.hoisted(() => ({ message: '' }))
vi.mock('classic-level', () => ({
  ClassicLevel: class {
    async open(): Promise<void> {
      const cause = new Error(level.message)
      throw Object.assign(new Error('Database failed to open', { cause }), {
        code: 'LEVEL_DATABASE_NOT_OPEN',
      })
    }
  },
}))

afterAll(cleanUp)

describe('a catalogue that cannot be opened', () => {
  it.each([
    ['IO error: /home/catalogue/LOCK: Permission denied', 'permissions', /^no permission for /],
    ['IO error: /home/catalogue/LOG: No space left on device', 'disk-full', /^no space left to write /],
    ['Corruption: bad record', 'io', /^the catalogue cannot be read or written: .*Corruption: bad record$/],
  ])('for "%s" throws %s', async (message, code, sentence) => {
    level.message = message
    await expect(Catalogue.open(await folder())).rejects.toMatchObject({
      code,
      message: expect.stringMatching(sentence),
    })
  })
})
