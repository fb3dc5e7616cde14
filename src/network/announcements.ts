/**
 * Subscribes to the announcements of members: an announcement is judged before it is relayed, and only members' are. Does
 * not know what announcements mean.
 */
import { TopicValidatorResult } from '@libp2p/gossipsub'
import type { Conduct } from './conduct.ts'
import type { NetworkInit } from './network.ts'
import type { Transport } from './transport.ts'

const VALIDATION = {
  accept: TopicValidatorResult.Accept,
  reject: TopicValidatorResult.Reject,
  ignore: TopicValidatorResult.Ignore,
}

export function subscribe(
  transport: Transport,
  { handlers, topic }: Pick<NetworkInit, 'handlers' | 'topic'>,
  conduct: Conduct,
): void {
  const { pubsub } = transport.services
  pubsub.topicValidators.set(topic, (from, { data }) => {
    const peer = from.toString()
    if (!handlers.isMember(peer) || conduct.isRefused(peer)) return VALIDATION.ignore
    const judgement = handlers.judge(data)
    if (judgement === 'reject') conduct.fault(peer, 'announcement')
    return VALIDATION[judgement]
  })
  pubsub.addEventListener('gossipsub:message', ({ detail }) => {
    handlers.onAnnouncement(detail.propagationSource.toString())
  })
  pubsub.subscribe(topic)
}
