/** Test vectors of protocols/consortium-charter: their order, and the decoder that each of them names. */
import { openCharter } from '../../src/consortium/charter.ts'
import { CharterDraft } from '../../src/consortium/charter-draft.ts'
import { openGovernanceStatement } from '../../src/consortium/governance.ts'
import { decodeInvite } from '../../src/consortium/invite.ts'
import { openMembershipRequest } from '../../src/consortium/membership-request.ts'
import { encodeRoster, openRoster, type Roster } from '../../src/consortium/roster.ts'
import { fromUtf8, utf8 } from '../../src/lib/bytes.ts'
import { charterVectors, draftVectors } from './consortium-charter/charter.ts'
import { founding, grown, shrunk } from './consortium-charter/fixtures.ts'
import { governanceVectors } from './consortium-charter/governance.ts'
import { inviteVectors } from './consortium-charter/invitation.ts'
import { keysVectors, runKeys, runSigner } from './consortium-charter/keys.ts'
import { membershipVectors } from './consortium-charter/membership-request.ts'
import { rosterVectors } from './consortium-charter/roster.ts'
import { byFileName, type Place, type Vector, type VectorSuite } from './vector.ts'

function makeVectors(): Record<string, Vector> {
  return byFileName([
    ...charterVectors(),
    ...draftVectors(),
    ...rosterVectors(),
    ...governanceVectors(),
    ...keysVectors(),
    ...membershipVectors(),
    ...inviteVectors(),
  ])
}

function runVector(input: Readonly<Record<string, unknown>>, place: Place): unknown {
  const envelope = place(utf8(String(input['envelope'] ?? '')))
  switch (input['decoder']) {
    case 'charter':
      return openCharter(envelope)
    case 'charter-draft':
      return CharterDraft.open(envelope).missing()
    case 'roster':
      return openRoster(envelope, previousRoster(String(input['previous'])))
    case 'proposal':
    case 'endorsement':
    case 'leave':
      return openGovernanceStatement(envelope)
    case 'keys':
      return runKeys(input, envelope)
    case 'signer':
      return runSigner(input)
    case 'membership-request':
      return openMembershipRequest(envelope)
    case 'invite':
      return decodeInvite(String(input['text']))
    default:
      throw new Error(`no decoder for ${String(input['decoder'])}`)
  }
}

function previousRoster(written: string): Roster {
  const known = [founding, grown, shrunk].find((roster) => fromUtf8(encodeRoster(roster)) === written)
  if (known === undefined) throw new Error('a vector names a roster that this file does not make')
  return known
}

export const consortiumCharter: VectorSuite = { makeVectors, runVector }
