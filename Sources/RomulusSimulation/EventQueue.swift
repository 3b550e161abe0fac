import RomulusCore

/// What is to happen, by true time; at the same moment in the order of its making.
struct EventQueue {
    private struct Entry {
        var time: Int64
        var order: UInt64
        var event: Event
        static func < (one: Entry, other: Entry) -> Bool {
            one.time == other.time ? one.order < other.order : one.time < other.time
        }
    }

    enum Event {
        case wake(Side)
        case arrival(Side)
        case guestRuns
        case guestIsLookedAt
        case guestResumed
        case checkpoint(CheckpointStep)
        case arbiter(ArbiterStep)
        case fault(Fault)
        /// The backup's; nanoseconds of patience.
        case secondOpinion(Int64)
        case thaw(Side)
        case heal
        case redirectNoticed
        case guardLooks
        case guardSeesXlGone
        case xlGoesOn
    }

    private var heap: [Entry] = []
    private var made: UInt64 = 0

    mutating func add(_ event: Event, at time: Int64) {
        made += 1
        heap.append(Entry(time: time, order: made, event: event))
        var index = heap.count - 1
        while index > 0, heap[index] < heap[(index - 1) / 2] {
            heap.swapAt(index, (index - 1) / 2)
            index = (index - 1) / 2
        }
    }

    mutating func next() -> (time: Int64, event: Event)? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            var index = 0
            while true {
                var least = index
                for child in [2 * index + 1, 2 * index + 2] where child < heap.count && heap[child] < heap[least] {
                    least = child
                }
                if least == index { break }
                heap.swapAt(index, least)
                index = least
            }
        }
        return (first.time, first.event)
    }
}
