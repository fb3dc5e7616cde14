import { afterEach, describe, expect, it } from 'vitest'
import { encodeEndorsement } from '../../src/consortium/endorsement.ts'
import { encodeProposal } from '../../src/consortium/proposal.ts'
import { seal } from '../../src/identity/envelope.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { openForkProof } from '../../src/packaging/fork-proof.ts'
import { openStatementOfAnyKind } from '../../src/packaging/open-statement.ts'
import { ingest } from '../../src/pipeline.ts'
import { loadTinyModel } from '../support/compositions.ts'
import { consortium, identityOf, NOW } from '../support/consortium.ts'
import { cleanUp } from '../support/folders.ts'
import { codeOf } from '../support/packages.ts'
import { pull, simulatedConsortium, simulatedNode } from '../support/simulation.ts'

const founder = identityOf(1)
const member = identityOf(2)
afterEach(cleanUp)

const RENEWAL = { rosterVersion: 1, change: { kind: 'renew' }, expiresAt: NOW + 60 } as const

describe('a statement of a kind in the table', () => {
  it('is opened with its value and its publisher', () => {
    const { value, id, envelope } = consortium().publisher(founder).chained('proposal', RENEWAL)
    const opened = openStatementOfAnyKind(envelope)
    expect(opened).toMatchObject({ kind: 'chained', statement: { kind: 'proposal', value, id, envelope } })
    expect(value.publisher).toBe(founder.peerId)
  })

  it('is refused under the payload type of another kind, and with the signature of another member', () => {
    const { value } = consortium().publisher(founder).chained('proposal', RENEWAL)
    const payload = encodeProposal(value)
    const asEndorsement = seal(MEDIA_TYPES.endorsement, payload, [founder])
    expect(codeOf(() => openStatementOfAnyKind(asEndorsement))).toBe('bad-field')
    const byOther = seal(MEDIA_TYPES.proposal, payload, [member])
    expect(codeOf(() => openStatementOfAnyKind(byOther))).toBe('wrong-signer')
  })

  it('proves a fork together with a statement of another kind in its place', () => {
    const c = consortium()
    const publisher = c.publisher(founder)
    const twin = publisher.twin()
    const first = publisher.chained('proposal', RENEWAL)
    const other = twin.chained('endorsement', { rosterVersion: 1, proposal: first.id, answer: 'reject' })
    expect(openForkProof([first.envelope, other.envelope], c.id).publisher).toBe(founder.peerId)
    expect(() => encodeEndorsement({ ...other.value, seq: 0 })).toThrow(/seq/)
  })

  it('is logged, survives a restart, and reaches a member that asks', async () => {
    const publicModel = await loadTinyModel()
    const c = simulatedConsortium(founder, publicModel)
    const roster = c.admit('Member', member)
    const holders = () => []
    const nodes = [
      await simulatedNode({ consortium: c, publicModel, holders }, founder),
      await simulatedNode({ consortium: c, publicModel, holders }, member),
    ] as const
    const [first, second] = nodes
    const statement = c.publisher(member).chained('proposal', RENEWAL)
    expect(await ingest(first.parts, roster)).toBe(true)
    expect(await ingest(first.parts, statement.envelope)).toBe(true)
    expect(await ingest(first.parts, statement.envelope)).toBe(false)
    await first.restart()
    await pull(second, first)
    expect(await second.parts.statements.envelope(statement.id)).toEqual(statement.envelope)
    for (const node of nodes) await node.close()
  })
})
