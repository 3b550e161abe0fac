import RomulusCore

/// What the world saw leave a host.
struct Packet: Equatable {
    /// The guest's state when it sent this: a replica that knows less has never sent it.
    var counter: UInt64
}

/// The plug qdisc as the kernel has it: it counts the packets of one closed epoch, and of the one under way.
struct PlugQueue {
    private var held: [Packet] = []
    private var closedCount = 0
    private var currentCount = 0
    private var releasableCount = 0
    private var isOpen = true
    private var isGone = false
    /// Nothing comes by here.
    var isBypassed = false

    /// What leaves at once.
    mutating func enqueue(_ packet: Packet) -> [Packet] {
        if isBypassed { return [packet] }
        if isGone { return [] }
        if isOpen { return [packet] }
        held.append(packet)
        currentCount += 1
        return []
    }

    mutating func buffer() {
        isOpen = false
        // A second BUFFER forgets what the first had closed: those packets stay in front, and the next release lets
        // them out in place of its own.
        closedCount = currentCount
        currentCount = 0
    }

    mutating func releaseOne() -> [Packet] {
        releasableCount += closedCount
        closedCount = 0
        let count = min(releasableCount, held.count)
        releasableCount -= count
        defer { held.removeFirst(count) }
        return Array(held.prefix(count))
    }

    mutating func open() -> [Packet] {
        isOpen = true
        defer { held = [] }
        return held
    }

    mutating func drop() {
        held = []
        isGone = true
    }

    var heldPackets: [Packet] { held }
}

/// The guest's copy on the primary: counts while it runs, and sends a packet with every count.
struct SimulatedGuest {
    var counter: UInt64 = 0
    var isSuspended = false
    var freezes = 0
    var exists = true
    var hasShutDown = false
    var hasCrashed = false
    /// Without its device model it cannot, once it is suspended.
    var canBeResumed = true

    /// May be scheduled now, or as soon as its checkpoint is over.
    var isActive: Bool { exists && !hasShutDown && freezes == 0 && (canBeResumed || !isSuspended) }
    var runs: Bool { isActive && !isSuspended }
}
