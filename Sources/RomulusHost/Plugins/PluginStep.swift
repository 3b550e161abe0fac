import Glibc
import RomulusCore
import RomulusPlugin
import Synchronization

/// One plugin's turn at a step of libxl's. The caller is the save's thread; the callback runs on the plugin's, and what it
/// calls as `next` runs on the caller's.
///
/// The caller waits for the plugin's own time alone, and not longer than its limit.
final class PluginStep: @unchecked Sendable {
    typealias Callback = @convention(c) (UnsafeMutableRawPointer?, UnsafePointer<romulus_step>?) -> Int32

    private enum Next {
        case notCalled
        case called
        case returned(Int32)

        var result: Int32? { if case .returned(let result) = self { result } else { nil } }
    }

    private struct Turn {
        var isOpen = false
        var next = Next.notCalled
        var returned: Int32?
    }

    private let plugin: Plugin
    private let turn = Mutex(Turn())
    private let forCaller: Descriptor
    private let forPlugin: Descriptor
    /// What the plugin sees, and behind it whose it is. Never freed: a callback that was left behind may look at it.
    private let memory: UnsafeMutableRawPointer
    private static let ownerOffset = MemoryLayout<romulus_step>.stride

    init(_ plugin: Plugin) throws(SystemError) {
        self.plugin = plugin
        forCaller = try Descriptor.event()
        forPlugin = try Descriptor.event()
        memory = .allocate(byteCount: Self.ownerOffset + 8, alignment: 8)
        memory.storeBytes(
            of: Unmanaged.passRetained(self).toOpaque(), toByteOffset: Self.ownerOffset, as: UnsafeRawPointer.self)
    }

    /// - Returns: nil when the plugin is not called any more.
    func take(
        _ callback: @escaping Callback, _ name: String, epoch: Epoch, next: () -> Int32
    ) -> StepResult.Judgement? {
        // A callback that was left behind must find the turn closed.
        guard plugin.lane.isWorking else { return nil }
        turn.withLock { $0 = Turn(isOpen: true) }
        describe(epoch)
        let me = SelfPointer(plugin.callbacks.`self`)
        let isPosted = plugin.lane.post { [self] in
            let step = UnsafePointer(memory.assumingMemoryBound(to: romulus_step.self))
            let result = callback(me.raw, step)
            turn.withLock { $0.returned = result }
            forCaller.signal()
        }
        guard isPosted else {
            turn.withLock { $0.isOpen = false }
            return nil
        }
        let ending = attend(next)
        let judgement = StepResult.judge(returned: ending.returned, next: ending.next.result)
        if ending.returned == nil {
            plugin.lane.leaveBehind(name, after: plugin.timeoutNanoseconds)
        } else if case .counts = judgement {
        } else {
            plugin.lane.failed(name)
        }
        return judgement
    }

    /// Does what the plugin asks for, until its callback has returned or its time is up.
    private func attend(_ next: () -> Int32) -> Turn {
        var left = plugin.timeoutNanoseconds
        var polls = PollSet()
        while true {
            let begun = MonotonicTime.now
            polls.reset()
            polls.add(forCaller.raw, reading: true)
            polls.wait(until: begun + left)
            forCaller.drain()
            left -= MonotonicTime.now - begun
            let seen = turn.withLock { turn in
                if case .called = turn.next { return turn }
                if turn.returned != nil || left <= 0 { turn.isOpen = false }
                return turn
            }
            if case .called = seen.next {
                let result = next()
                turn.withLock { $0.next = .returned(result) }
                forPlugin.signal()
            } else if !seen.isOpen {
                return seen
            }
        }
    }

    private func describe(_ epoch: Epoch) {
        let step = memory.assumingMemoryBound(to: romulus_step.self)
        step.pointee = romulus_step(
            size: UInt32(MemoryLayout<romulus_step>.size), reserved: 0, epoch: epoch.rawValue,
            next: { step in
                guard let step else { return -1 }
                let owner = UnsafeRawPointer(step).load(
                    fromByteOffset: PluginStep.ownerOffset, as: UnsafeRawPointer.self)
                return Unmanaged<PluginStep>.fromOpaque(owner).takeUnretainedValue().nextWasCalled()
            })
    }

    private func nextWasCalled() -> Int32 {
        let isDue = turn.withLock { turn in
            guard turn.isOpen, case .notCalled = turn.next else { return false }
            turn.next = .called
            return true
        }
        guard isDue else { return -1 }
        forCaller.signal()
        // The caller answers in any case: it closes no turn whose `next` has been called and not answered.
        var polls = PollSet()
        while true {
            if let result = turn.withLock({ $0.next.result }) { return result }
            polls.reset()
            polls.add(forPlugin.raw, reading: true)
            polls.wait(until: nil)
            forPlugin.drain()
        }
    }
}

/// The plugins around libxl's three steps, in the save helper.
public final class StepPlugins {
    public enum Step {
        case suspend
        case postcopy
        case checkpoint

        fileprivate var name: String {
            switch self {
            case .suspend: "suspend"
            case .postcopy: "postcopy"
            case .checkpoint: "checkpoint"
            }
        }

        fileprivate func callback(_ plugin: Plugin) -> PluginStep.Callback? {
            switch self {
            case .suspend: plugin.callbacks.suspend
            case .postcopy: plugin.callbacks.postcopy
            case .checkpoint: plugin.callbacks.checkpoint
            }
        }
    }

    private let plugins: [(plugin: Plugin, step: PluginStep)]

    public init(_ set: PluginSet) throws(SystemError) {
        var plugins: [(Plugin, PluginStep)] = []
        for plugin in set.plugins { plugins.append((plugin, try PluginStep(plugin))) }
        self.plugins = plugins
    }

    /// Above zero is success.
    public func take(_ step: Step, _ epoch: Epoch, last: () -> Int32) -> Int32 {
        take(step, epoch, outermost: plugins.count - 1, last: last)
    }

    private func take(_ step: Step, _ epoch: Epoch, outermost: Int, last: () -> Int32) -> Int32 {
        guard outermost >= 0 else { return last() }
        func next() -> Int32 { take(step, epoch, outermost: outermost - 1, last: last) }
        let (plugin, turn) = plugins[outermost]
        guard let callback = step.callback(plugin) else { return next() }
        switch turn.take(callback, step.name, epoch: epoch, next: next) {
        case .counts(let result)?, .failed(let result)?: return result
        case .failedBeforeNext?, nil: return next()
        }
    }
}
