/** Commands about the experts of the consortium: the state of every package, and the operator's decisions about them. */

import type { PackageState } from '../acceptance/package-states.ts'
import type { Digest } from '../lib/bytes.ts'
import { shortDigest } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import { reporting } from '../lib/reporting.ts'
import { endingConsents } from '../node/consent-warnings.ts'
import type { PackageReport } from '../node/packages.ts'
import { nodeCommand } from './command.ts'
import { packageLine, packageLines, stateWords } from './package-lines.ts'
import { positional, text } from './parameters.ts'
import { endingConsentLine } from './release-lines.ts'
import { withdrawnExportLine, withdrawnExports } from './withdrawn-exports.ts'

/** A package by its id, its expert or its institution. */
const PACKAGE = text(100)

export const EXPERTS = nodeCommand({
  name: 'experts',
  usage: 'experts',
  parameters: {},
  async *run(node) {
    const packages = await node.packages()
    const { digest, router, routerNote, experts } = node.composer.served.composition
    return {
      composition: digest,
      router,
      ...(routerNote === undefined ? {} : { routerNote }),
      composed: experts.map(({ id, name, institution }) => ({ id, name, institution })),
      ending: endingConsents(node.accepted.manifests(), node.now()).map(
        ({ expert, publisher, expiresAt, daysLeft }) => ({
          expert,
          institution: node.membership.institutionOf(publisher),
          isOwn: publisher === node.membership.seat,
          expiresAt,
          daysLeft,
        }),
      ),
      packages,
      withdrawnExports: await withdrawnExports(node),
    }
  },
  words: ({ composition, routerNote, composed, ending, packages, withdrawnExports: exports }) => [
    `composition ${shortDigest(composition)}: public model${composed.map((e) => ` + ${e.institution}/${e.name}`).join('')}`,
    ...(routerNote === undefined ? [] : [routerNote]),
    ...packageLines(packages),
    ...ending.map(endingConsentLine),
    ...exports.map(withdrawnExportLine),
  ],
})

export const ACCEPT = nodeCommand({
  name: 'accept',
  usage: 'accept PACKAGE',
  parameters: {
    package: positional(PACKAGE, `name the package as ${ownCommand('experts')} lists it`),
  },
  async *run(node, { package: name }, signal) {
    const [{ reconsider }, { outcomesOf }] = await Promise.all([
      import('../node/operator.ts'),
      import('../node/packages.ts'),
    ])
    const ids = await reconsider(node.parts, name)
    const packages = yield* reporting<{ id: Digest; state: PackageState }, PackageReport[]>((report) =>
      outcomesOf(node.parts, ids, signal, (id, state) => report({ id, state })),
    )
    return { packages }
  },
  progress: ({ id, state }) => ({ text: `${shortDigest(id)} ${stateWords(id, state)}`, stays: false }),
  words: ({ packages }) => packages.map(packageLine),
})

export const REFUSE = nodeCommand({
  name: 'refuse',
  usage: 'refuse PACKAGE',
  parameters: {
    package: positional(PACKAGE, `name the package as ${ownCommand('experts')} lists it`),
  },
  async *run(node, { package: name }) {
    const { refuse } = await import('../node/operator.ts')
    return { refused: await refuse(node.parts, name) }
  },
  words: ({ refused }) => [`left out: ${refused.map(shortDigest).join(', ')}`],
})
