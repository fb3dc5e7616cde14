/**
 * A node that is offered statements and heads one by one, through the path that those of the network take: signatures,
 * roster, chain, clock. Tells for each whether the node took it in.
 */
import type { PublicModel } from '../../../src/checkpoint/public-model.ts'
import type { Identity } from '../../../src/identity/keys.ts'
import { type Digest, digestOf } from '../../../src/lib/bytes.ts'
import { FlexMeshError } from '../../../src/lib/errors.ts'
import { ingestFork, ingestHead } from '../../../src/pipeline/forks.ts'
import { ingest } from '../../../src/pipeline.ts'
import type { ForkEnvelopes } from '../../../src/statements/fork.ts'
import { identityOf, type Publisher, type TestConsortium } from '../consortium.ts'
import { type SimulatedNode, simulatedConsortium, simulatedNode } from '../simulation.ts'

/** What the cases have at hand. */
export interface Victim {
  readonly node: SimulatedNode
  readonly consortium: TestConsortium
  /** A member whose log has three statements, which the victim holds with its latest head. */
  readonly publisher: Publisher
  /** Envelopes of these three statements, oldest first. */
  readonly statements: readonly Uint8Array[]
  /** The head that names the third. */
  readonly head: Uint8Array
  /** Another member, with one statement, which the victim holds. */
  readonly other: Publisher
  /** A peer that no roster lists. */
  readonly stranger: Publisher
  /** A member of another consortium with the key of `publisher`. */
  readonly elsewhere: Publisher
  /** Offer a statement or roster. @returns whether the node took it in. */
  offer(envelope: Uint8Array): Promise<boolean>
  /** Announce a head. @returns whether the node took it for the latest one. */
  announce(head: Uint8Array): Promise<boolean>
  /** Offer a proof of a fork. @returns whether the node took it in. */
  prove(envelopes: ForkEnvelopes): Promise<boolean>
  restart(): Promise<void>
}

export const digest = (n: number): Digest => digestOf(Uint8Array.of(n, n >> 8))

const [founder, member, otherMember, outsider] = [1, 2, 3, 4].map(identityOf) as [
  Identity,
  Identity,
  Identity,
  Identity,
]

export async function newVictim(publicModel: PublicModel): Promise<Victim> {
  const c = simulatedConsortium(founder, publicModel)
  const rosters = [c.admit('Member', member), c.admit('Other', otherMember)]
  const node = await simulatedNode({ consortium: c, publicModel, holders: () => [] }, founder)
  for (const roster of rosters) await ingest(node.parts, roster)
  const publisher = c.publisher(member)
  const other = c.publisher(otherMember)
  const statements = [1, 2, 3].map((n) => publisher.withdrawal([digest(n)]).envelope)
  for (const envelope of [...statements, other.withdrawal([digest(9)]).envelope]) {
    await ingest(node.parts, envelope)
  }
  const announce = async (head: Uint8Array): Promise<boolean> => {
    try {
      const judged = node.parts.statements.judgeHead(head)
      if (judged.head !== undefined) await ingestHead(node.parts, judged.head, head)
      return judged.judgement === 'accept'
    } catch (error) {
      if (error instanceof FlexMeshError) return false
      throw error
    }
  }
  const head = publisher.head()
  await announce(head)
  return {
    node,
    consortium: c,
    publisher,
    statements,
    head,
    other,
    stranger: c.publisher(outsider),
    elsewhere: simulatedConsortium(outsider, publicModel).publisher(member),
    offer: (envelope) => ingest(node.parts, envelope),
    announce,
    prove: (envelopes) => ingestFork(node.parts, envelopes),
    restart: () => node.restart(),
  }
}
