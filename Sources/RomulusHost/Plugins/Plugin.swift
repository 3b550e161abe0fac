import Glibc
import RomulusCore
import RomulusPlugin

/// A plugin that this process has loaded (romulus.h), and its threads.
public final class Plugin: @unchecked Sendable {
    public let name: String
    // Written by `init`; its pointers are the plugin's, which stays loaded.
    let callbacks: romulus_plugin
    let timeoutNanoseconds: Int64
    /// All callbacks but those that have a lane of their own.
    let lane: PluginLane
    let sinkLane: PluginLane?
    let arbiterLane: PluginLane?

    private typealias EntryPoint =
        @convention(c) (UInt32, UnsafePointer<romulus_host>?) -> UnsafePointer<romulus_plugin>?

    /// - Parameter setting: as in romulus.conf.
    init(_ setting: String, _ host: PluginHost, timeoutMilliseconds: Int, log: Log) throws(PluginError) {
        let (path, options) = Self.parts(of: setting)
        guard let library = dlopen(path, RTLD_NOW | RTLD_LOCAL) else {
            throw PluginError(path, dlerror().map { String(cString: $0) } ?? "the loader gives no reason")
        }
        guard let symbol = dlsym(library, "romulus_plugin") else {
            throw PluginError(path, "it exports no romulus_plugin, so it is no plugin of Romulus")
        }
        let entryPoint = unsafeBitCast(symbol, to: EntryPoint.self)
        guard let answer = entryPoint(UInt32(ROMULUS_PLUGIN_ABI), host.description(options: options)) else {
            throw PluginError(path, "it refuses to work; its own lines say why")
        }
        callbacks = try Self.read(UnsafeRawPointer(answer), path)
        timeoutNanoseconds = .nanoseconds(milliseconds: timeoutMilliseconds)
        let file = path.split(separator: "/").last.map(String.init) ?? path
        let name = callbacks.name.map { String(cString: $0) } ?? file
        self.name = name
        do throws(SystemError) {
            lane = try PluginLane(plugin: name, log: log)
            sinkLane = callbacks.sink == nil ? nil : try PluginLane(plugin: name, log: log)
            arbiterLane = callbacks.arbitrate == nil ? nil : try PluginLane(plugin: name, log: log)
        } catch {
            throw PluginError(path, "there is no thread for it (\(error))")
        }
    }

    static func parts(of setting: String) -> (path: String, options: String) {
        let parts = setting.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
        return (String(parts[0]), parts.count > 1 ? String(parts[1]) : "")
    }

    /// As much of it as both sides know.
    private static func read(_ answer: UnsafeRawPointer, _ path: String) throws(PluginError) -> romulus_plugin {
        let (size, abi) = (answer.load(as: UInt32.self), answer.load(fromByteOffset: 4, as: UInt32.self))
        guard abi == UInt32(ROMULUS_PLUGIN_ABI) else {
            throw PluginError(
                path,
                "it speaks plugin ABI \(abi), and this Romulus \(ROMULUS_PLUGIN_ABI): compile it with its romulus.h")
        }
        guard Int(size) >= MemoryLayout<romulus_plugin>.offset(of: \.close)! else {
            throw PluginError(path, "its struct romulus_plugin has only \(size) bytes: is `size' set?")
        }
        var plugin = romulus_plugin()
        let wholeMembers = min(Int(size) & ~7, MemoryLayout<romulus_plugin>.size)
        withUnsafeMutableBytes(of: &plugin) {
            $0.copyMemory(from: UnsafeRawBufferPointer(start: answer, count: wholeMembers))
        }
        return plugin
    }
}

public struct PluginError: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String

    init(_ path: String, _ reason: String) {
        description = "the plugin \(path) cannot be used: \(reason); correct it, or `plugin' in /etc/xen/romulus.conf"
    }
}

/// What a plugin is told of this process.
public struct PluginHost: Sendable {
    public enum Process: UInt32, Sendable {
        case remus = 1
        case saveHelper = 2
        case receive = 3
        case test = 4
    }

    let process: Process
    let guest: String
    let domain: UInt32
    fileprivate(set) var timeoutMilliseconds = 0
    fileprivate(set) var log = Log(guest: "")

    public init(_ process: Process, guest: String = "", domain: UInt32 = 0) {
        self.process = process
        self.guest = guest
        self.domain = domain
    }

    /// For the life of the process.
    fileprivate func description(options: String) -> UnsafePointer<romulus_host> {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: Self.logOffset + 8, alignment: 8)
        memory.storeBytes(
            of: Unmanaged.passRetained(Speaker(log)).toOpaque(), toByteOffset: Self.logOffset, as: UnsafeRawPointer.self
        )
        let host = memory.bindMemory(to: romulus_host.self, capacity: 1)
        host.initialize(
            to: romulus_host(
                size: UInt32(MemoryLayout<romulus_host>.size), process: process.rawValue, guest: strdup(guest),
                domain: domain, plugin_timeout_ms: UInt32(timeoutMilliseconds), options: strdup(options),
                log: { host, line in
                    guard let host, let line else { return }
                    let speaker = UnsafeRawPointer(host).load(
                        fromByteOffset: PluginHost.logOffset, as: UnsafeRawPointer.self)
                    Unmanaged<Speaker>.fromOpaque(speaker).takeUnretainedValue().log.note(String(cString: line))
                }))
        return UnsafePointer(host)
    }

    /// Behind what the plugin sees.
    private static let logOffset = MemoryLayout<romulus_host>.stride

    private final class Speaker: Sendable {
        let log: Log
        init(_ log: Log) { self.log = log }
    }
}

/// All plugins of this process, in the order of romulus.conf.
public struct PluginSet: Sendable {
    public let plugins: [Plugin]

    /// All of them, or none: before the guest is touched.
    public init(_ settings: PluginSettings, _ host: PluginHost, log: Log) throws(PluginError) {
        var host = host
        host.timeoutMilliseconds = settings.timeoutMilliseconds
        host.log = log
        var loaded: [Plugin] = []
        for setting in settings.plugins {
            loaded.append(try Plugin(setting, host, timeoutMilliseconds: settings.timeoutMilliseconds, log: log))
        }
        plugins = loaded
    }

    /// The run is over, and nothing else will be called.
    public func close() {
        for plugin in plugins { plugin.close() }
    }
}

extension Plugin {
    func close() {
        guard let close = callbacks.close else { return }
        let lanes = [lane, sinkLane, arbiterLane].compactMap { $0 }
        guard !lanes.contains(where: \.isLeftBehind) else { return }
        let me = SelfPointer(callbacks.`self`)
        if let sinkLane {
            PluginFarewell.expect(sinkLane.postLast { close(me.raw) })
        } else {
            _ = lane.postLast { close(me.raw) }.wait(timeoutNanoseconds)
        }
    }
}

/// The plugin's own pointer, on its way to the plugin's threads.
struct SelfPointer: @unchecked Sendable {
    let raw: UnsafeMutableRawPointer?
    init(_ raw: UnsafeMutableRawPointer?) { self.raw = raw }
}
