/** Commands about the experts of others: which are in use, and the operator's decisions about them. */
import type { Verdict } from '../acceptance/accept.ts'
import { shortDigest } from '../lib/bytes.ts'
import { nodeCommand } from './command.ts'
import { positional, text } from './parameters.ts'
import { endingConsentLine } from './release-lines.ts'

/** A package by its id, its expert or its institution. */
const PACKAGE = text(100)

export const EXPERTS = nodeCommand({
  name: 'experts',
  usage: 'experts',
  parameters: {},
  async *run(node) {
    await node.settled()
    const verdicts = await node.verdicts.list()
    const { digest, router, routerNote, experts } = node.composer.served.composition
    return {
      composition: digest,
      router,
      ...(routerNote === undefined ? {} : { routerNote }),
      composed: experts.map(({ id, name, institution }) => ({ id, name, institution })),
      ending: node.endingConsents().map(({ expert, publisher, expiresAt, daysLeft }) => ({
        expert,
        institution: node.membership.institutionOf(publisher),
        isOwn: publisher === node.identity.peerId,
        expiresAt,
        daysLeft,
      })),
      verdicts,
    }
  },
  words: ({ composition, routerNote, composed, ending, verdicts }) => [
    `composition ${shortDigest(composition)}: public model${composed.map((e) => ` + ${e.institution}/${e.name}`).join('')}`,
    ...(routerNote === undefined ? [] : [routerNote]),
    ...verdicts.map(verdictLine),
    ...ending.map(endingConsentLine),
  ],
})

export const ACCEPT = nodeCommand({
  name: 'accept',
  usage: 'accept PACKAGE',
  parameters: {
    package: positional(PACKAGE, 'name the package as "flexmesh experts" lists it'),
  },
  async *run(node, { package: name }) {
    const ids = await node.reconsider(name)
    const verdicts = await Promise.all(ids.map((id) => node.verdicts.get(id)))
    return { verdicts: verdicts.filter((verdict) => verdict !== undefined) }
  },
  words: ({ verdicts }) => verdicts.map(verdictLine),
})

export const REFUSE = nodeCommand({
  name: 'refuse',
  usage: 'refuse PACKAGE',
  parameters: {
    package: positional(PACKAGE, 'name the package as "flexmesh experts" lists it'),
  },
  async *run(node, { package: name }) {
    return { refused: await node.refuse(name) }
  },
  words: ({ refused }) => [`left out: ${refused.map(shortDigest).join(', ')}`],
})

function verdictLine(verdict: Verdict): string {
  const { id, expert, outcome } = verdict
  const why = verdict.outcome === 'refused' ? ` ${verdict.code}: ${verdict.reason}` : ''
  return `${shortDigest(id)} ${expert ?? '(unknown expert)'} ${outcome}${why}`
}
