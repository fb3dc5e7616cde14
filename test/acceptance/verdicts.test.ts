import { afterEach, describe, expect, it } from 'vitest'
import type { Verdict } from '../../src/acceptance/accept.ts'
import { Verdicts } from '../../src/acceptance/verdicts.ts'
import { type Digest, digestOf, utf8 } from '../../src/lib/bytes.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { NOW } from '../support/consortium.ts'
import { cleanUp, folder } from '../support/folders.ts'

const open: Catalogue[] = []
afterEach(async () => {
  for (const catalogue of open.splice(0)) await catalogue.close()
  await cleanUp()
})

const digest = (text: string): Digest => digestOf(utf8(text))

/** Verdicts on a disk of their own, and the events that they report. */
async function empty() {
  const catalogue = await Catalogue.open(await folder())
  open.push(catalogue)
  const events: [id: Digest, outcome: string, institution: string][] = []
  const init = {
    catalogue,
    institutionOf: (publisher: string) => `Institution ${publisher}`,
    onVerdict: (verdict: Verdict, institution: string) =>
      events.push([verdict.id, verdict.outcome, institution]),
  }
  return { verdicts: new Verdicts(init), events, reopened: () => new Verdicts(init) }
}

function accepted(expert: string, publisher = 'P'): Verdict {
  return { id: digest(expert), expert, publisher, passed: ['envelope'], at: NOW, outcome: 'accepted' }
}

function refused(expert: string, publisher = 'P'): Verdict {
  const why = { check: 'norms', code: 'norm-bound', reason: 'too large' }
  return { ...accepted(expert, publisher), outcome: 'refused', ...why }
}

/** On an envelope that became no statement. */
function unreadable(text: string): Verdict {
  const why = { check: 'envelope', code: 'not-json', reason: 'no JSON' }
  return { id: digest(text), passed: [], at: NOW, outcome: 'refused', ...why }
}

describe('a verdict', () => {
  it('is on disk and reported once it is put', async () => {
    const { verdicts, events, reopened } = await empty()
    await verdicts.put(accepted('law'))
    expect(await reopened().get(digest('law'))).toEqual(accepted('law'))
    expect(await reopened().list()).toEqual([accepted('law')])
    expect(await reopened().get(digest('medicine'))).toBeUndefined()
    expect(events).toEqual([[digest('law'), 'accepted', 'Institution P']])
  })

  it('replaces an earlier one on the same package', async () => {
    const { verdicts } = await empty()
    await verdicts.put(refused('law'))
    await verdicts.put(accepted('law'))
    expect(await verdicts.list()).toEqual([accepted('law')])
  })
})

describe('a verdict on an envelope', () => {
  it('is kept beside others, without an institution', async () => {
    const { verdicts, events } = await empty()
    await verdicts.putEnvelope(unreadable('x'))
    expect(await verdicts.get(digest('x'))).toEqual(unreadable('x'))
    expect(events).toEqual([[digest('x'), 'refused', 'unknown']])
  })

  it('never replaces a verdict', async () => {
    const { verdicts, events } = await empty()
    await verdicts.put(accepted('law'))
    await verdicts.putEnvelope(unreadable('law'))
    expect(await verdicts.list()).toEqual([accepted('law')])
    expect(events).toHaveLength(1)
  })

  it('is dropped after 256 others, and a verdict on a package is not', async () => {
    const { verdicts } = await empty()
    for (let i = 0; i < 260; i++) await verdicts.putEnvelope(unreadable(String(i)))
    await verdicts.put(accepted('law'))
    expect(await verdicts.list()).toHaveLength(257)
    expect(await verdicts.get(digest('255'))).toBeDefined()
    expect(await verdicts.get(digest('256'))).toBeUndefined()
  })
})

describe('overruling', () => {
  const why = { check: 'operator', code: 'refused-by-operator', reason: 'the operator refused it' }

  it('turns an acceptance into a refusal, and keeps what was found out', async () => {
    const { verdicts, events } = await empty()
    await verdicts.put(accepted('law'))
    await verdicts.overrule(digest('law'), why, NOW + 5)
    expect(await verdicts.get(digest('law'))).toEqual({
      ...accepted('law'),
      ...why,
      outcome: 'refused',
      at: NOW + 5,
    })
    expect(events.map(([, outcome]) => outcome)).toEqual(['accepted', 'refused'])
  })

  it('has no effect on a refusal and on a package without a verdict', async () => {
    const { verdicts, events } = await empty()
    await verdicts.put(refused('law'))
    await verdicts.overrule(digest('law'), why, NOW + 5)
    await verdicts.overrule(digest('medicine'), why, NOW + 5)
    expect(await verdicts.list()).toEqual([refused('law')])
    expect(events).toHaveLength(1)
  })
})

describe('finding verdicts', () => {
  const hex = digest('law').slice('sha256:'.length)

  it.each([
    ['the name of the expert', 'law'],
    ['the name of the institution', 'Institution P'],
    ['the package id', digest('law')],
    ['the beginning of the package id', digest('law').slice(0, 20)],
    ['eight characters of the package id', hex.slice(0, 8)],
  ])('works by %s', async (_, name) => {
    const { verdicts } = await empty()
    await verdicts.put(accepted('law'))
    await verdicts.put(accepted('medicine', 'Q'))
    expect(await verdicts.find(name, 'accepted')).toEqual([accepted('law')])
  })

  it('returns every match', async () => {
    const { verdicts } = await empty()
    for (const expert of ['law', 'history']) await verdicts.put(accepted(expert))
    await verdicts.put(accepted('medicine', 'Q'))
    expect(await verdicts.find('Institution P', 'accepted')).toHaveLength(2)
  })

  it.each([
    ['another outcome', 'law', 'refused'],
    ['another name', 'lawyers', 'accepted'],
    ['seven characters of the package id', hex.slice(0, 7), 'accepted'],
  ] as const)('returns nothing for %s', async (_, name, outcome) => {
    const { verdicts } = await empty()
    await verdicts.put(accepted('law'))
    expect(await verdicts.find(name, outcome)).toEqual([])
  })

  it.each([7, 8])('counts the characters after "sha256:" of a package id: %i of them', async (characters) => {
    const { verdicts } = await empty()
    await verdicts.put(accepted('law'))
    const prefix = digest('law').slice(0, 'sha256:'.length + characters)
    expect(await verdicts.find(prefix, 'accepted')).toEqual(characters === 8 ? [accepted('law')] : [])
  })
})
